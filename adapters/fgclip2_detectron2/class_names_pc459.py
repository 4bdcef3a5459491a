"""Class names of PC-459 (all of PASCAL Context), English and Chinese, in label order.

English names are the official ones, written as there: in one word, the class "unknown" among them. Where PC-59 has a
class, the Chinese name is the same.

The list names some things twice, apparently after the Chinese of its annotators: "electriciron" is 电熨斗, so "iron" is
taken for the metal, and "fan", beside "electricfan", for one that is held. Other names that no picture was at hand to
decide: case, clippers, disc, drop, fly, holder, line, rail, receiver, straw, tank.
"""

from __future__ import annotations

from typing import Final

from fgclip2.glossary import read_table

PC_459: Final = read_table("""
accordion=手风琴; aeroplane=飞机; airconditioner=空调; antenna=天线; artillery=火炮; ashtray=烟灰缸; atrium=中庭
babycarriage=婴儿车; bag=包; ball=球; balloon=气球; bambooweaving=竹编制品; barrel=桶; baseballbat=棒球棒; basket=篮子
basketballbackboard=篮板; bathtub=浴缸; bed=床; bedclothes=床上用品; beer=啤酒; bell=铃铛; bench=长椅; bicycle=自行车
binoculars=双筒望远镜; bird=鸟; birdcage=鸟笼; birdfeeder=喂鸟器; birdnest=鸟巢; blackboard=黑板; board=木板; boat=船
bone=骨头; book=书; bottle=瓶子; bottleopener=开瓶器; bowl=碗; box=盒子; bracelet=手镯; brick=砖; bridge=桥; broom=扫帚
brush=刷子; bucket=水桶; building=建筑; bus=公交车; cabinet=柜子; cabinetdoor=柜门; cage=笼子; cake=蛋糕
calculator=计算器; calendar=日历; camel=骆驼; camera=照相机; cameralens=相机镜头; can=易拉罐; candle=蜡烛
candleholder=烛台; cap=鸭舌帽; car=汽车; card=卡片; cart=推车; case=箱子; casetterecorder=盒式录音机
cashregister=收银机; cat=猫; cd=光盘; cdplayer=CD播放机; ceiling=天花板; cellphone=手机; cello=大提琴; chain=链条
chair=椅子; chessboard=棋盘; chicken=鸡; chopstick=筷子; clip=夹子; clippers=剪子; clock=时钟; closet=壁橱; cloth=布
clothestree=衣帽架; coffee=咖啡; coffeemachine=咖啡机; comb=梳子; computer=电脑; concrete=混凝土; cone=锥筒
container=容器; controlbooth=控制室; controller=控制器; cooker=炊具; copyingmachine=复印机; coral=珊瑚; cork=软木塞
corkscrew=螺旋开瓶器; counter=柜台; court=球场; cow=牛; crabstick=蟹肉棒; crane=起重机; crate=板条箱; cross=十字架
crutch=拐杖; cup=杯子; curtain=窗帘; cushion=靠垫; cuttingboard=砧板; dais=讲台; disc=圆盘; disccase=光盘盒
dishwasher=洗碗机; dock=船坞; dog=狗; dolphin=海豚; door=门; drainer=沥水架; dray=板车; drinkdispenser=饮料机
drinkingmachine=饮水机; drop=水滴; drug=药品; drum=鼓; drumkit=架子鼓; duck=鸭子; dumbbell=哑铃; earphone=耳机
earrings=耳环; egg=鸡蛋; electricfan=电风扇; electriciron=电熨斗; electricpot=电热锅; electricsaw=电锯
electronickeyboard=电子琴; engine=发动机; envelope=信封; equipment=设备; escalator=自动扶梯; exhibitionbooth=展台
extinguisher=灭火器材; eyeglass=眼镜; fan=扇子; faucet=水龙头; faxmachine=传真机; fence=栅栏; ferriswheel=摩天轮
fireextinguisher=灭火器; firehydrant=消防栓; fireplace=壁炉; fish=鱼; fishtank=鱼缸; fishbowl=圆形鱼缸; fishingnet=渔网
fishingpole=钓鱼竿; flag=旗帜; flagstaff=旗杆; flame=火焰; flashlight=手电筒; floor=地板; flower=花; fly=苍蝇
foam=泡沫; food=食物; footbridge=人行天桥; forceps=镊钳; fork=叉子; forklift=叉车; fountain=喷泉; fox=狐狸; frame=框架
fridge=冰箱; frog=青蛙; fruit=水果; funnel=漏斗; furnace=熔炉; gamecontroller=游戏手柄; gamemachine=游戏机
gascylinder=煤气罐; gashood=油烟罩; gasstove=煤气灶; giftbox=礼盒; glass=玻璃杯; glassmarble=玻璃弹珠; globe=地球仪
glove=手套; goal=球门; grandstand=看台; grass=草; gravestone=墓碑; ground=地面; guardrail=护栏; guitar=吉他; gun=枪
hammer=锤子; handcart=手推车; handle=把手; handrail=扶手; hanger=衣架; harddiskdrive=硬盘; hat=帽子; hay=干草
headphone=头戴式耳机; heater=取暖器; helicopter=直升机; helmet=头盔; holder=支架; hook=挂钩; horse=马
horse-drawncarriage=马车; hot-airballoon=热气球; hydrovalve=水阀; ice=冰; inflatorpump=打气筒; ipod=iPod音乐播放器
iron=铁; ironingboard=熨衣板; jar=罐子; kart=卡丁车; kettle=水壶; key=钥匙; keyboard=键盘; kitchenrange=厨房灶台
kite=风筝; knife=刀; knifeblock=刀架; ladder=梯子; laddertruck=云梯车; ladle=汤勺; laptop=笔记本电脑; leaves=树叶
lid=盖子; lifebuoy=救生圈; light=灯; lightbulb=灯泡; lighter=打火机; line=线; lion=狮子; lobster=龙虾; lock=锁
machine=机器; mailbox=信箱; mannequin=人体模型; map=地图; mask=面具; mat=垫子; matchbook=火柴盒; mattress=床垫
menu=菜单; metal=金属; meterbox=电表箱; microphone=麦克风; microwave=微波炉; mirror=镜子; missile=导弹; model=模型
money=钱; monkey=猴子; mop=拖把; motorbike=摩托车; mountain=山; mouse=鼠标; mousepad=鼠标垫; musicalinstrument=乐器
napkin=餐巾; net=网; newspaper=报纸; oar=船桨; ornament=装饰品; outlet=插座; oven=烤箱; oxygenbottle=氧气瓶; pack=包裹
pan=平底锅; paper=纸; paperbox=纸盒; papercutter=裁纸刀; parachute=降落伞; parasol=遮阳伞; parterre=花坛; patio=庭院
pelage=毛皮; pen=笔; pencontainer=笔筒; pencil=铅笔; person=人; photo=照片; piano=钢琴; picture=图画; pig=猪
pillar=柱子; pillow=枕头; pipe=管道; pitcher=大口水壶; plant=植物; plastic=塑料; plate=盘子; platform=站台
player=播放器; playground=操场; pliers=钳子; plume=羽毛; poker=扑克牌; pokerchip=扑克筹码; pole=杆子; pooltable=台球桌
postcard=明信片; poster=海报; pot=锅; pottedplant=盆栽; printer=打印机; projector=投影仪; pumpkin=南瓜; rabbit=兔子
racket=球拍; radiator=暖气片; radio=收音机; rail=铁轨; rake=耙子; ramp=坡道; rangehood=抽油烟机; receiver=接收器
recorder=录音机; recreationalmachines=游乐设施; remotecontrol=遥控器; road=道路; robot=机器人; rock=岩石; rocket=火箭
rockinghorse=摇摆木马; rope=绳子; rug=地毯; ruler=尺子; runway=跑道; saddle=马鞍; sand=沙子; saw=锯子; scale=秤
scanner=扫描仪; scissors=剪刀; scoop=铲勺; screen=屏幕; screwdriver=螺丝刀; sculpture=雕塑; scythe=长柄镰刀
sewer=下水道; sewingmachine=缝纫机; shed=棚子; sheep=羊; shell=贝壳; shelves=架子; shoe=鞋; shoppingcart=购物车
shovel=铲子; sidecar=摩托车挎斗; sidewalk=人行道; sign=标志; signallight=信号灯; sink=水槽; skateboard=滑板; ski=滑雪板
sky=天空; sled=雪橇; slippers=拖鞋; smoke=烟; snail=蜗牛; snake=蛇; snow=雪; snowmobiles=雪地摩托; sofa=沙发
spanner=扳手; spatula=锅铲; speaker=扬声器; speedbump=减速带; spicecontainer=调料罐; spoon=勺子; sprayer=喷雾器
squirrel=松鼠; stage=舞台; stair=楼梯; stapler=订书机; stick=棍子; stickynote=便利贴; stone=石头; stool=凳子
stove=炉子; straw=吸管; stretcher=担架; sun=太阳; sunglass=太阳镜; sunshade=遮阳篷; surveillancecamera=监控摄像头
swan=天鹅; sweeper=清扫车; swimring=游泳圈; swimmingpool=游泳池; swing=秋千; switch=开关; table=桌子; tableware=餐具
tank=坦克; tap=水嘴; tape=胶带; tarp=防水布; telephone=电话; telephonebooth=电话亭; tent=帐篷; tire=轮胎
toaster=烤面包机; toilet=马桶; tong=夹钳; tool=工具; toothbrush=牙刷; towel=毛巾; toy=玩具; toycar=玩具车; track=轨道
train=火车; trampoline=蹦床; trashbin=垃圾桶; tray=托盘; tree=树; tricycle=三轮车; tripod=三脚架; trophy=奖杯
truck=卡车; tube=管子; turtle=乌龟; tvmonitor=电视显示器; tweezers=镊子; typewriter=打字机; umbrella=雨伞
unknown=未知物体; vacuumcleaner=吸尘器; vendingmachine=自动售货机; videocamera=摄像机; videogameconsole=家用游戏主机
videoplayer=视频播放机; videotape=录像带; violin=小提琴; wakeboard=尾波滑水板; wall=墙; wallet=钱包; wardrobe=衣柜
washingmachine=洗衣机; watch=手表; water=水; waterdispenser=桶装水饮水机; waterpipe=水管; waterskateboard=水上滑板
watermelon=西瓜; whale=鲸鱼; wharf=码头; wheel=车轮; wheelchair=轮椅; window=窗户; windowblinds=百叶窗; wineglass=酒杯
wire=电线; wood=木头; wool=羊毛
""")
