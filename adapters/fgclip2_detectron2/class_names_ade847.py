"""Class names of ADE-847 (all of ADE20K), English and Chinese, and ADE20K's numbers for the classes, in label order.

The official list gives a class all its synonyms. One of them stands here: the one that ``ADE_150`` has, else the
first, or a later one where the first is another class's ("wharf", since there is a class "pier" of its own) or says
less of what is to be seen ("cake" of "patty, cake"). No two classes share a name. The official list has singulars and
plurals as classes apart; where it has both, the Chinese plural is said with a measure word.

Chinese names say what annotators meant, where the English word has another first sense. Without ADE20K's pictures at
hand this was inferred, from synonyms, from neighbours in the list, and from the annotators' Spanish: "finger" is a
boarding bridge, "exhibitor" a display rack, "patio" (beside "terrace") a courtyard, "pier" (beside "wharf") one of a
bridge. Least certain are: ring, system, gear, block, club, jack, terminal, mobile, stringer, shell, side, chips,
stalls, stands, cabin, pepper, ear.
"""

from __future__ import annotations

from typing import Final

from fgclip2.glossary import read_table

ADE_847: Final = read_table("""
wall=墙; building=建筑; sky=天空; tree=树; road=道路; floor=地板; ceiling=天花板; bed=床; sidewalk=人行道; earth=土地
cabinet=柜子; person=人; grass=草地; window=窗户; car=汽车; mountain=山; plant=植物; table=桌子; chair=椅子
curtain=窗帘; door=门; sofa=沙发; sea=海; painting=画; water=水; mirror=镜子; house=房子; rug=地毯; shelf=架子
armchair=扶手椅; fence=栅栏; field=田野; lamp=灯; rock=岩石; seat=座位; river=河流; desk=书桌; tub=浴缸; rail=护栏
signboard=招牌; cushion=靠垫; path=小路; work surface=操作台面; stairs=楼梯; column=柱子; sink=水槽; wardrobe=衣柜
snow=雪; refrigerator=冰箱; pedestal=底座; bridge=桥; blind=百叶窗; runway=跑道; cliff=悬崖; sand=沙子; fireplace=壁炉
pillow=枕头; screen door=纱门; toilet=马桶; skyscraper=摩天大楼; grandstand=看台; box=盒子; pool table=台球桌
palm=棕榈树; double door=双开门; coffee table=茶几; counter=柜台; countertop=台面; chest of drawers=抽屉柜
kitchen island=厨房中岛; boat=小船; falls=瀑布; stove=炉灶; flower=花; bookcase=书柜; controls=操纵装置; book=书
stairway=阶梯; street lamp=路灯; computer=电脑; bus=公交车; swivel chair=转椅; light=灯光; bench=长椅
display case=展示柜; towel=毛巾; fountain=喷泉; embankment=堤岸; tv=电视; van=面包车; hill=小山; awning=遮阳篷
poster=海报; truck=卡车; plane=飞机; pole=杆子; tower=塔; court=球场; ball=球; aircraft carrier=航空母舰; buffet=餐具柜
hovel=棚屋; clothes=衣服; minibike=小型摩托车; animal=动物; chandelier=吊灯; step=台阶; booth=亭子; bicycle=自行车
doorframe=门框; sconce=壁灯; pond=池塘; trade name=商标; bannister=栏杆扶手; bag=包; traffic light=红绿灯; gazebo=凉亭
escalator=自动扶梯; land=地面; board=木板; arcade machine=街机; duvet=羽绒被; bar=吧台; stall=摊位
playground=儿童游乐场; ship=轮船; ottoman=软垫凳; trash can=垃圾桶; bottle=瓶子; cradle=摇篮; flowerpot=花盆
conveyor belt=传送带; train=火车; stool=凳子; lake=湖; tank=储罐; ice=冰; basket=篮子; manhole=井盖; tent=帐篷
canopy=顶篷; microwave=微波炉; barrel=桶; dirt track=土路; beam=横梁; dishwasher=洗碗机; plate=盘子
crt screen=显像管屏幕; ruins=废墟; washer=洗衣机; blanket=毯子; plaything=玩具; food=食物; screen=投影幕布; oven=烤箱
stage=舞台; lighthouse=灯塔; umbrella=雨伞; sculpture=雕塑; aqueduct=渡槽; container=集装箱; scaffolding=脚手架
exhaust hood=抽油烟机; curb=路缘石; roller coaster=过山车; horse=马; catwalk=T台; glass=玻璃杯; vase=花瓶
central reservation=道路中央隔离带; carousel=旋转木马; radiator=暖气片; closet=壁橱; machine=机器; wharf=码头; fan=风扇
inflatable bounce game=充气城堡; pitch=运动场; paper=纸; arcade=拱廊; hot tub=热水浴缸; helicopter=直升机; tray=托盘
partition=隔断; vineyard=葡萄园; bowl=碗; bullring=斗牛场; flag=旗帜; pot=锅; footbridge=人行天桥; shower=淋浴
suitcase=行李箱; bulletin board=公告板; confessional booth=忏悔室; trunk=树干; forest=森林; elevator door=电梯门
laptop=笔记本电脑; instrument panel=仪表盘; bucket=水桶; tapestry=挂毯; platform=站台; jacket=夹克; gate=大门
monitor=显示器; telephone booth=电话亭; spotlight=聚光灯; ring=拳击台; control panel=控制面板; blackboard=黑板
air conditioner=空调; chest=箱柜; clock=时钟; sand dune=沙丘; pipe=管道; vault=拱顶; table football=桌上足球
cannon=大炮; swimming pool=游泳池; fluorescent=日光灯; statue=雕像; loudspeaker=扬声器; exhibitor=展示架; ladder=梯子
carport=车棚; dam=水坝; pulpit=布道坛; skylight=天窗; water tower=水塔; grille=格栅; display board=展板; pane=窗玻璃
rubbish=垃圾; ice rink=溜冰场; fruit=水果; patio=庭院; vending machine=自动售货机; telephone=电话; net=网
backpack=背包; jar=罐子; track=轨道; magazine=杂志; shutter=窗板; roof=屋顶; banner=横幅; landfill=垃圾填埋场
post=柱桩; altarpiece=祭坛画; hat=帽子; arch=拱门; table game=桌上游戏; handbag=手提包; document=文件; dome=穹顶
pier=桥墩; shanties=成片的简陋小屋; forecourt=前院; crane=起重机; dog=狗; piano=钢琴; drawing=素描; cabin=小木屋
advertisement=广告; amphitheater=圆形剧场; monument=纪念碑; henhouse=鸡舍; cockpit=驾驶舱; heater=取暖器; windmill=风车
pool=水池; elevator=电梯; decoration=装饰品; labyrinth=迷宫; text=文字; printer=打印机; mezzanine=剧院楼座
mattress=床垫; straw=稻草; stalls=成排摊位; terrace=露台; billboard=广告牌; bus stop=公交站; trouser=裤子
console table=玄关桌; rack=置物架; notebook=笔记本; shrine=神龛; pantry=食品储藏室; cart=手推车
steam shovel=蒸汽挖土机; porch=门廊; mailbox=信箱; figurine=小雕像; recycling bin=回收箱; folding screen=屏风
telescope=望远镜; deck chair=沙滩躺椅; kennel=狗窝; coffee maker=咖啡机; altar=祭坛; fish=鱼; easel=画架
artificial golf green=人造高尔夫果岭; iceberg=冰山; candlestick=烛台; shower stall=淋浴隔间; television stand=电视柜
wall socket=墙壁插座; skeleton=骨架; grand piano=三角钢琴; candy=糖果; grille door=铁栅门; plinth=基座; t-shirt=T恤
shoe=鞋; gravestone=墓碑; shanty=简陋小屋; structure=构筑物; rocking chair=摇椅; bird=鸟; place mat=餐垫; tomb=坟墓
big top=马戏团大帐篷; gas pump=加油机; lockers=成排储物柜; cage=笼子; finger=登机廊桥; bleachers=露天看台
ferris wheel=摩天轮; hairdresser chair=理发椅; mat=垫子; stands=观众席; aquarium=水族箱; streetcar=有轨电车
napkin=餐巾; dummy=人体模型; booklet=小册子; sand trap=沙坑; shop=商店; table cloth=桌布; service station=加油站
coffin=棺材; drawer=抽屉; cages=多个笼子; slot machine=老虎机; balcony=阳台; volleyball court=排球场
table tennis=乒乓球台; control table=控制台; shirt=衬衫; merchandise=商品; railway=铁路; parterre=花坛; chimney=烟囱
can=金属罐; tanks=多个储罐; fabric=织物; algae=藻类; system=系统设备; map=地图; greenhouse=温室; mug=马克杯
barbecue=烧烤炉; trailer=拖车; toilet paper=卫生纸; organ=管风琴; dishrag=洗碗布; island=岛屿; keyboard=键盘
trench=壕沟; basketball hoop=篮球筐; steering wheel=方向盘; pitcher=大口水壶; goal=球门; bread=面包; beds=多张床
wood=木头; file cabinet=文件柜; newspaper=报纸; motorboat=摩托艇; rope=绳子; guitar=吉他; rubble=瓦砾; scarf=围巾
barrels=多个桶; cap=鸭舌帽; leaves=树叶; control tower=塔台; dashboard=汽车仪表板; bandstand=音乐亭; lectern=讲台
switch=电灯开关; baseboard=踢脚板; shower room=淋浴间; smoke=烟; faucet=水龙头; bulldozer=推土机; saucepan=长柄汤锅
shops=成排商店; meter=计量表; crevasse=冰裂隙; gear=装备; candelabrum=枝形烛台; sofa bed=沙发床; tunnel=隧道
pallet=木制货盘; wire=电线; kettle=水壶; bidet=坐浴盆; stroller=婴儿车; music stand=乐谱架; tube=管子; cup=杯子
parking meter=停车计时器; ice hockey rink=冰球场; shelter=遮蔽棚; weeds=杂草; temple=寺庙; cake=蛋糕; ski slope=滑雪道
panel=面板; wallet=钱包; wheel=车轮; towel rack=毛巾架; roundabout=环形路口; canister=储物罐; rod=细棒
soap dispenser=皂液器; bell=铃铛; canvas=画布; box office=售票亭; teacup=茶杯; trellis=花格架; workbench=工作台
valley=山谷; toaster=烤面包机; knife=刀; podium=演讲台; ramp=坡道; tumble dryer=滚筒烘干机; fire hydrant=消防栓
sneaker=运动鞋; lab bench=实验台; equipment=设备; rocky formation=岩层; plastic=塑料; calendar=日历; caravan=房车
check-in-desk=值机柜台; ticket counter=售票柜台; brush=刷子; mill=磨坊; covered bridge=廊桥; bowling alley=保龄球道
hanger=衣架; excavator=挖掘机; trestle=支撑架; revolving door=旋转门; blast furnace=高炉; scale=秤; projector=投影仪
soap=肥皂; locker=储物柜; tractor=拖拉机; stretcher=担架; frame=框架; grating=金属格栅; alembic=蒸馏器; candle=蜡烛
barrier=路障; cardboard=纸板; cave=洞穴; puddle=水坑; tarp=防水布; price tag=价签; watchtower=瞭望塔; meters=多个计量表
light bulb=灯泡; tracks=铁轨; hair dryer=吹风机; skirt=裙子; viaduct=高架桥; paper towel=厨房纸巾; coat=外套
sheet=床单; fire extinguisher=灭火器; water wheel=水车; pottery=陶器; magazine rack=杂志架; teapot=茶壶
microphone=麦克风; support=支架; forklift=叉车; canyon=峡谷; cash register=收银机; leaf=叶子; remote control=遥控器
soap dish=肥皂盒; windshield=挡风玻璃; cat=猫; cue=台球杆; vent=通风口; videos=多盘录像带; shovel=铲子; eaves=屋檐
antenna=天线; shipyard=造船厂; hen=母鸡; traffic cone=交通锥; washing machines=多台洗衣机; truck crane=汽车起重机
cds=多张光盘; niche=壁龛; scoreboard=记分牌; briefcase=公文包; boot=靴子; sweater=毛衣; hay=干草; pack=包裹
bottle rack=瓶架; glacier=冰川; pergola=藤架; building materials=建筑材料; television camera=电视摄像机
first floor=一楼; rifle=步枪; tennis table=乒乓球桌; stadium=体育场; safety belt=安全带; cover=罩子; dish rack=碗碟架
synthesizer=合成器; pumpkin=南瓜; gutter=排水槽; fruit stand=水果摊; ice floe=浮冰; handle=把手; wheelchair=轮椅
mousepad=鼠标垫; diploma=证书; fairground ride=游乐设施; radio=收音机; hotplate=电热炉; junk=废旧杂物
wheelbarrow=独轮手推车; stream=小溪; toll plaza=收费站; punching bag=拳击沙袋; trough=饲料槽; throne=宝座
chair desk=带写字板的椅子; weighbridge=地磅; extractor fan=排气扇; hanging clothes=悬挂的衣服; dish antenna=碟形天线
alarm clock=闹钟; ski lift=滑雪缆车; chain=链条; garage=车库; mechanical shovel=机械铲; wine rack=葡萄酒架
tramway=有轨电车线路; treadmill=跑步机; menu=菜单; block=方块; well=水井; witness stand=证人席; branch=树枝; duck=鸭子
casserole=砂锅; frying pan=煎锅; desk organizer=桌面收纳盒; mast=桅杆; spectacles=眼镜; service elevator=货梯
dollhouse=玩具屋; hammock=吊床; clothes hanging=晾挂的衣物; photocopier=复印机; notepad=便签本; golf cart=高尔夫球车
footpath=步行小径; cross=十字架; baptismal font=洗礼池; boiler=锅炉; skip=建筑垃圾箱; rotisserie=旋转烤肉架
tables=多张桌子; water mill=水磨坊; helmet=头盔; cover curtain=遮帘; brick=砖; table runner=桌旗; ashtray=烟灰缸
street box=街边配电箱; stick=棍子; hangers=多个衣架; cells=牢房; urinal=小便池; centerpiece=餐桌中央摆饰
portable fridge=便携冰箱; dvds=多张DVD光盘; golf club=高尔夫球杆; skirting board=踢脚线; water cooler=饮水机
clipboard=写字夹板; camera=照相机; pigeonhole=分格信件架; chips=薯片; food processor=食物料理机; post box=邮筒
lid=盖子; drum=鼓; blender=搅拌机; cave entrance=洞口; dental chair=牙科椅; obelisk=方尖碑; canoe=独木舟
mobile=悬挂吊饰; monitors=多台显示器; pool ball=台球; cue rack=球杆架; baggage carts=行李推车; shore=岸边; fork=叉子
paper filer=文件整理架; bicycle rack=自行车停放架; coat rack=衣帽架; garland=花环; sports bag=运动包; fish tank=鱼缸
towel dispenser=擦手纸盒; carriage=马车; brochure=宣传册; plaque=纪念牌匾; stringer=楼梯斜梁; iron=熨斗; spoon=勺子
flag pole=旗杆; toilet brush=马桶刷; book stand=阅读架; water faucet=自来水龙头; ticket office=售票处; broom=扫帚
dvd=DVD光盘; ice bucket=冰桶; shell=贝壳; tureen=汤盅; folders=多个文件夹; chess=国际象棋; root=树根
sewing machine=缝纫机; model=模型; pen=笔; violin=小提琴; sweatshirt=卫衣; recycling materials=回收物; mitten=连指手套
chopping board=砧板; mask=面具; log=原木; mouse=鼠标; grill=烤架; hole=洞; target=靶子; trash bag=垃圾袋; chalk=粉笔
sticks=多根棍子; balloon=气球; score=乐谱; hair spray=发胶; roll=卷筒; runner=长条地毯; engine=发动机
inflatable glove=充气手套; games=游戏用具; pallets=多个木制货盘; baskets=多个篮子; coop=鸡笼; dvd player=DVD播放机
rocking horse=摇摆木马; buckets=多个水桶; bread rolls=小圆面包; shawl=披肩; watering can=洒水壶; spotlights=多盏聚光灯
post-it=便利贴; bowls=多只碗; security camera=监控摄像头; runner cloth=长条装饰布; lock=锁; alarm=警报器; side=侧面
roulette=轮盘赌; bone=骨头; cutlery=刀叉; pool balls=多颗台球; wheels=多个车轮; spice rack=调料架; plant pots=多个花盆
towel ring=毛巾环; bread box=面包盒; video=录像带; funfair=游乐园; breads=各式面包; tripod=三脚架; ironing board=熨衣板
skimmer=撇渣漏勺; hollow=洼地; scratching post=猫抓柱; tricycle=三轮车; file box=文件盒; mountain pass=山口
tombstones=多块墓碑; cooker=灶具; card game=纸牌; golf bag=高尔夫球包; towel paper=擦手纸; chaise lounge=贵妃椅
sun=太阳; toilet paper holder=卫生纸架; rake=耙子; key=钥匙; umbrella stand=雨伞架; dartboard=飞镖盘
transformer=变压器; fireplace utensils=壁炉工具; sweatshirts=多件卫衣; cellphone=手机; tallboy=高脚抽屉柜
stapler=订书机; sauna=桑拿房; test tube=试管; palette=调色板; shopping carts=购物车; tools=工具; push button=按钮
star=星星; roof rack=车顶行李架; barbed wire=带刺铁丝网; spray=喷雾瓶; ear=耳朵; sponge=海绵; racket=球拍
tins=多个铁罐; eyeglasses=一副眼镜; file=文件夹; scarfs=多条围巾; sugar bowl=糖罐; flip flop=人字拖
headstones=成排墓碑; laptop bag=电脑包; leash=牵引绳; climbing frame=攀爬架; suit hanger=西装衣架
floor spotlight=地面射灯; plate rack=盘架; sewer=下水道; hard drive=硬盘; sprinkler=洒水喷头; tools box=工具箱
necklace=项链; bulbs=多个灯泡; steel industry=钢铁厂; club=球棍; jack=千斤顶; door bars=门栏杆; control board=操控板
hairbrush=发刷; napkin holder=餐巾架; office=办公室; smoke detector=烟雾探测器; utensils=厨房用具; apron=围裙
scissors=剪刀; terminal=终端机; grinder=研磨机; entry phone=门禁对讲机; newspaper stand=报刊架; pepper shaker=胡椒瓶
onions=洋葱; cpu=电脑主机; tape=胶带; bat=球棒; coaster=杯垫; calculator=计算器; potatoes=土豆; luggage rack=行李架
salt=盐; street number=门牌号; viewpoint=观景台; sword=剑; cd=光盘; rowing machine=划船机; plug=插头; andiron=壁炉柴架
pepper=胡椒; tongs=夹钳; bonfire=篝火; dog dish=狗食盆; belt=腰带; dumbbells=多只哑铃; vcr=录像机; hook=挂钩
envelopes=信封; shower faucet=淋浴龙头; watch=手表; padlock=挂锁; swimming pool ladder=泳池扶梯; spanners=扳手
gravy boat=酱汁盅; notice board=布告栏; trash bags=多个垃圾袋; fire alarm=火灾报警器; ladle=汤勺; stethoscope=听诊器
rocket=火箭; funnel=漏斗; bowling pins=保龄球瓶; valve=阀门; thermometer=温度计; cups=多只杯子; spice jar=调料罐
night light=夜灯; soaps=多块肥皂; games table=游戏桌; slotted spoon=漏勺; reel=卷盘; scourer=百洁布; sleeping robe=睡袍
desk mat=桌垫; dumbbell=哑铃; hammer=锤子; tie=领带; typewriter=打字机; shaker=摇酒壶; cheese dish=奶酪盘
sea star=海星; racquet=网球拍; butane gas cylinder=丁烷气罐; paper weight=镇纸; shaving brush=剃须刷; sunglasses=太阳镜
gear shift=换挡杆; towel rail=毛巾杆; adding machine=加法机
""")

_IDS: Final = """
2978 312 2420 2855 2131 976 447 165 2377 838 350 1831 1125 3055 401 1610 1910 2684 471 687 774 2473 2264 1735 2994 1564
1276 2178 2329 57 907 913 1395 2138 2272 2128 724 155 2053 2380 689 1788 3087 2530 581 2388 2985 2454 2096 137 294 212
2185 524 2212 943 1869 2251 2793 2423 1121 266 1948 1744 783 571 627 629 491 1374 223 3016 2598 978 239 608 236 2531
2616 591 327 2679 1451 181 420 2821 1023 855 2733 2928 1240 77 1969 2880 14 1936 2828 631 103 3144 308 1282 38 1563 29
480 2569 247 187 778 2243 1941 2833 120 95 2836 1087 868 1401 220 47 843 123 2537 1927 2337 1702 64 249 642 1981 609
2840 2586 1393 2704 1304 146 1494 2739 389 1551 131 738 161 747 1919 3109 2179 2989 206 1930 1002 2254 1708 2526 160
2901 2262 44 597 2235 1260 682 2151 3107 432 1098 2932 461 410 2046 533 1481 1858 894 1322 1891 1756 49 1272 1229 2850
1784 2962 259 319 954 1974 1013 2356 97 318 592 2885 1017 851 1407 1332 303 2714 1924 1346 1081 1583 2727 2509 2123 602
202 10 490 530 2213 1884 2934 2687 387 2668 982 2547 1474 877 1391 414 698 2019 2422 3010 1139 753 1747 2175 1301 1033
1789 2939 2730 1652 90 1349 2830 1485 2370 2155 118 1402 1957 3130 1197 52 2688 96 762 772 1857 2315 1016 643 3105 1849
791 349 6 3114 1587 1233 559 1223 3049 1943 853 709 1390 2748 2007 1546 1513 2600 2538 1790 194 326 2877 594 2036 1662
2366 1754 418 2553 1951 1963 918 2086 997 2731 704 1365 569 3108 948 839 63 1305 378 2362 2734 2982 2398 1119 382 1141
1805 3102 2341 1131 2316 2626 3104 198 1896 2800 190 3131 1463 357 929 209 912 1164 1509 2539 3116 2615 1644 818 242
2217 2347 2686 2300 572 789 358 2443 101 2969 2692 606 2339 1533 2060 1782 495 371 2707 889 3156 2683 1499 1135 1619
125 2838 2792 1695 746 1343 1370 2858 145 2565 1892 1103 286 170 3073 922 1655 1602 2160 1151 2176 2239 132 394 1424
607 700 116 1425 2676 141 2360 2449 897 317 2228 2351 1543 656 1088 373 2472 2892 1740 3067 1367 188 79 1633 1885 677
1779 1297 2334 3027 2735 1791 2405 1748 2983 3035 2824 2168 385 2148 2465 175 390 268 2722 2857 3088 2926 2782 1378
1934 2072 2889 944 1158 1383 867 2145 1915 361 402 482 2761 300 1554 636 260 1186 871 2859 2103 208 2236 2012 2462 1462
2832 2617 1024 1129 18 376 134 407 434 2017 2717 2005 2993 1545 1445 2831 1161 2411 2949 1769 552 2327 939 3013 1986
1486 2723 1549 2649 1020 392 422 1419 2099 2464 3058 430 675 2941 2955 2355 840 32 2338 1232 2834 2991 2879 444 1657
2246 296 245 2661 1202 1714 251 1095 1828 311 2732 947 2115 2738 2525 2194 634 740 2682 2020 1156 1036 1295 1181 3037
1614 736 893 2047 1274 1361 3036 2606 2797 2022 2876 2758 472 3028 882 1189 743 3122 2401 468 1061 1523 3059 2843 2853
1529 214 3032 3071 277 813 426 1039 727 1508 2490 2299 768 1172 537 1847 1664 1110 1014 662 121 227 2410 2165 2696 3005
1231 635 292 2690 65 2607 2574 1188 456 2913 459 1955 827 1111 2412 2997 528 366 1863 500 1001 1958 1441 809 210 435
718 1674 388 1572 1584 1944 674 99 2352 1019 1763 185 554 1066 2508 951 2822 415 297 1914 2619 1338 2505 955 2786 238
3000 2763 299 822 1288 3101 2894 992 489 2157 2309 1576 1810 2964 2662 2087 1569 503 1505 1468 1613 1138 1256 2715 2846
477 2576 108 2245 1162 2149 2183 858 1324 1055 1741 149 615 825 2143 304 283 2322 3017 2510 1960 265 2282 2184 1461
3113 2372 2166 232 693 1945 3039 2494 1908 2827 280 2950 1044 288 2863 1342 2409 1258 2249 2862 920 1607 2802 610 3129
1108 2823 476 2641 2788 2070 1368 2903 699 2844 942 2663 457 2701 2540 2231 2746 1738 2350 2808 2025 2541 2156 126 2512
831 2503 2039 2774 886 919 2240 2636 963 1218 1406 1420 526 2639 975 1921 2305 1193 2517 2809 1647 314 2560 545 1345
775 603 1163 1641 1678 2450 2915 42 2242 2741 1143 862 1654 1826 1689 3124 2710 152 549 360 1982 1478 2203 2612 2956
2681 437 2171 1933 3110 1824 2803 234 764 177 817 3145 1262 864 2359 2992 1725 2667 2484 1133 1667 2847 932 1392 2573
2140 1046 264 2927 2752 679 2493 1658 2466 1057 2444 2093 2248 2432 726 816 1171 2766 2900 2313 488 2265 2043 332 1771
2320 2646 1089 2826 3148
"""
ADE_847_IDS: Final = tuple(map(int, _IDS.split()))
"""ADE20K's number of each class: ``name_ndx`` in its JSON files, R // 10 * 256 + G in its ``_seg.png`` pictures."""
