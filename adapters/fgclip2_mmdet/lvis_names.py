"""Chinese names of LVIS v1's 1,203 categories.

Each says what LVIS means by the English one, which is not always its first meaning: a nut is the one on a bolt, a bob
floats on a fishing line, a grill is a grating. No two are the same, so that they can be a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


def chinese_names(names: Sequence[str]) -> list[str | None]:
    """Chinese names of categories, in their order; ``None`` for those that LVIS v1 does not have."""
    return [LVIS.get(_SPELLINGS.get(name, name)) for name in names]


_SPELLINGS: Final = {"speaker_(stero_equipment)": "speaker_(stereo_equipment)"}  # codespell:ignore stero
"""Of some copies of the files."""


def _read(table: str) -> dict[str, str]:
    entries = table.replace("\n", ";").split(";")
    return dict(entry.strip().split("=") for entry in entries if entry.strip())


# English as the files spell it, in the order of their ids from 1.
LVIS: Final = _read("""
aerosol_can=喷雾罐; air_conditioner=空调; airplane=飞机; alarm_clock=闹钟; alcohol=酒精饮料; alligator=短吻鳄
almond=杏仁; ambulance=救护车; amplifier=放大器; anklet=脚链; antenna=天线; apple=苹果; applesauce=苹果酱
apricot=杏子; apron=围裙; aquarium=水族箱; arctic_(type_of_shoe)=防水套鞋; armband=臂带; armchair=扶手椅
armoire=大衣橱; armor=盔甲; artichoke=洋蓟; trash_can=垃圾桶; ashtray=烟灰缸; asparagus=芦笋; atomizer=喷雾瓶
avocado=牛油果; award=奖品; awning=遮阳篷; ax=斧头; baboon=狒狒; baby_buggy=婴儿车; basketball_backboard=篮板
backpack=背包; handbag=手提包; suitcase=行李箱; bagel=贝果; bagpipe=风笛; baguet=法棍面包; bait=鱼饵; ball=球
ballet_skirt=芭蕾舞裙; balloon=气球; bamboo=竹子; banana=香蕉; Band_Aid=创可贴; bandage=绷带; bandanna=印花大手帕
banjo=班卓琴; banner=横幅; barbell=杠铃; barge=驳船; barrel=木桶; barrette=发夹; barrow=独轮手推车; baseball_base=垒包
baseball=棒球; baseball_bat=棒球棒; baseball_cap=棒球帽; baseball_glove=棒球手套; basket=篮子; basketball=篮球
bass_horn=大号; bat_(animal)=蝙蝠; bath_mat=浴室地垫; bath_towel=浴巾; bathrobe=浴袍; bathtub=浴缸; batter_(food)=面糊
battery=电池; beachball=沙滩球; bead=珠子; bean_curd=豆腐; beanbag=豆袋; beanie=针织帽; bear=熊; bed=床
bedpan=床用便盆; bedspread=床罩; cow=牛; beef_(food)=牛肉; beeper=寻呼机; beer_bottle=啤酒瓶; beer_can=啤酒罐
beetle=甲虫; bell=铃铛; bell_pepper=甜椒; belt=腰带; belt_buckle=皮带扣; bench=长椅; beret=贝雷帽; bib=围兜
Bible=圣经; bicycle=自行车; visor=帽舌; billboard=广告牌; binder=活页夹; binoculars=双筒望远镜; bird=鸟
birdfeeder=喂鸟器; birdbath=鸟浴盆; birdcage=鸟笼; birdhouse=鸟屋; birthday_cake=生日蛋糕; birthday_card=生日贺卡
pirate_flag=海盗旗; black_sheep=黑绵羊; blackberry=黑莓; blackboard=黑板; blanket=毯子; blazer=休闲西装
blender=搅拌机; blimp=飞艇; blinker=闪烁信号灯; blouse=女式上衣; blueberry=蓝莓; gameboard=桌游棋盘; boat=船; bob=鱼漂
bobbin=线轴; bobby_pin=一字发卡; boiled_egg=水煮蛋; bolo_tie=波洛领带; deadbolt=锁舌; bolt=螺栓; bonnet=系带女帽
book=书; bookcase=书柜; booklet=小册子; bookmark=书签; boom_microphone=吊杆麦克风; boot=靴子; bottle=瓶子
bottle_opener=开瓶器; bouquet=花束; bow_(weapon)=弓; bow_(decorative_ribbons)=蝴蝶结; bow-tie=领结; bowl=碗
pipe_bowl=烟斗斗钵; bowler_hat=圆顶礼帽; bowling_ball=保龄球; box=盒子; boxing_glove=拳击手套; suspenders=吊裤带
bracelet=手镯; brass_plaque=黄铜牌匾; brassiere=胸罩; bread-bin=面包箱; bread=面包; breechcloth=缠腰布
bridal_gown=婚纱; briefcase=公文包; broccoli=西兰花; broach=胸针; broom=扫帚; brownie=布朗尼蛋糕
brussels_sprouts=抱子甘蓝; bubble_gum=泡泡糖; bucket=水桶; horse_buggy=轻便马车; bull=公牛; bulldog=斗牛犬
bulldozer=推土机; bullet_train=高速列车; bulletin_board=布告栏; bulletproof_vest=防弹背心; bullhorn=扩音喇叭
bun=小圆面包; bunk_bed=双层床; buoy=浮标; burrito=墨西哥卷饼; bus_(vehicle)=公交车; business_card=名片; butter=黄油
butterfly=蝴蝶; button=纽扣; cab_(taxi)=出租车; cabana=海滩更衣帐篷; cabin_car=守车; cabinet=柜子; locker=储物柜
cake=蛋糕; calculator=计算器; calendar=日历; calf=小牛; camcorder=便携式摄像机; camel=骆驼; camera=相机
camera_lens=相机镜头; camper_(vehicle)=房车; can=金属罐; can_opener=开罐器; candle=蜡烛; candle_holder=烛台
candy_bar=糖果棒; candy_cane=拐杖糖; walking_cane=拐杖; canister=食品罐; canoe=独木舟; cantaloup=哈密瓜
canteen=军用水壶; cap_(headwear)=便帽; bottle_cap=瓶盖; cape=披风; cappuccino=卡布奇诺; car_(automobile)=汽车
railcar_(part_of_a_train)=火车车厢; elevator_car=电梯轿厢; car_battery=汽车电瓶; identity_card=身份证; card=卡片
cardigan=开襟毛衣; cargo_ship=货船; carnation=康乃馨; horse_carriage=马车; carrot=胡萝卜; tote_bag=托特包; cart=畜力车
carton=纸盒; cash_register=收银机; casserole=砂锅菜; cassette=盒式磁带; cast=石膏绷带; cat=猫; cauliflower=花椰菜
cayenne_(spice)=辣椒粉; CD_player=CD播放机; celery=芹菜; cellular_telephone=手机; chain_mail=锁子甲; chair=椅子
chaise_longue=贵妃榻; chalice=圣餐杯; chandelier=枝形吊灯; chap=牛仔皮套裤; checkbook=支票簿; checkerboard=跳棋盘
cherry=樱桃; chessboard=国际象棋棋盘; chicken_(animal)=鸡; chickpea=鹰嘴豆; chili_(vegetable)=辣椒; chime=排钟
chinaware=瓷器; crisp_(potato_chip)=薯片; poker_chip=扑克筹码; chocolate_bar=巧克力块; chocolate_cake=巧克力蛋糕
chocolate_milk=巧克力牛奶; chocolate_mousse=巧克力慕斯; choker=颈圈; chopping_board=砧板; chopstick=筷子
Christmas_tree=圣诞树; slide=滑梯; cider=苹果酒; cigar_box=雪茄盒; cigarette=香烟; cigarette_case=烟盒
cistern=马桶水箱; clarinet=单簧管; clasp=搭扣; cleansing_agent=清洁剂; cleat_(for_securing_rope)=羊角缆桩
clementine=小柑橘; clip=夹子; clipboard=写字夹板; clippers_(for_plants)=修枝剪; cloak=斗篷; clock=时钟
clock_tower=钟楼; clothes_hamper=脏衣篮; clothespin=晾衣夹; clutch_bag=手拿包; coaster=杯垫; coat=外套
coat_hanger=衣架; coatrack=衣帽架; cock=公鸡; cockroach=蟑螂; cocoa_(beverage)=热可可; coconut=椰子
coffee_maker=咖啡机; coffee_table=茶几; coffeepot=咖啡壶; coil=螺旋管; coin=硬币; colander=沥水盆; coleslaw=凉拌卷心菜
coloring_material=颜料; combination_lock=密码锁; pacifier=安抚奶嘴; comic_book=漫画书; compass=指南针
computer_keyboard=电脑键盘; condiment=调味品; cone=交通锥; control=控制器; convertible_(automobile)=敞篷车
sofa_bed=沙发床; cooker=炊具; cookie=曲奇饼干; cooking_utensil=烹饪用具; cooler_(for_food)=保温箱
cork_(bottle_plug)=软木塞; corkboard=软木板; corkscrew=螺旋开瓶器; edible_corn=玉米; cornbread=玉米面包; cornet=小号
cornice=窗帘檐板; cornmeal=玉米粉; corset=紧身胸衣; costume=戏服; cougar=美洲狮; coverall=连体工作服; cowbell=牛铃
cowboy_hat=牛仔帽; crab_(animal)=螃蟹; crabmeat=蟹肉; cracker=薄脆饼干; crape=可丽饼; crate=板条箱; crayon=蜡笔
cream_pitcher=奶盅; crescent_roll=牛角面包; crib=婴儿床; crock_pot=炖锅; crossbar=横杆; crouton=烤面包丁; crow=乌鸦
crowbar=撬棍; crown=王冠; crucifix=耶稣受难十字架; cruise_ship=邮轮; police_cruiser=警车; crumb=面包屑
crutch=腋下拐杖; cub_(animal)=幼兽; cube=方块; cucumber=黄瓜; cufflink=袖扣; cup=杯子; trophy_cup=奖杯; cupboard=壁橱
cupcake=纸杯蛋糕; hair_curler=卷发筒; curling_iron=卷发棒; curtain=窗帘; cushion=靠垫; cylinder=圆筒; cymbal=钹
dagger=匕首; dalmatian=斑点狗; dartboard=飞镖盘; date_(fruit)=椰枣; deck_chair=帆布躺椅; deer=鹿; dental_floss=牙线
desk=书桌; detergent=洗涤剂; diaper=尿布; diary=日记本; die=骰子; dinghy=小划艇; dining_table=餐桌; tux=无尾礼服
dish=碟子; dish_antenna=碟形天线; dishrag=洗碗布; dishtowel=擦碗巾; dishwasher=洗碗机
dishwasher_detergent=洗碗机洗涤剂; dispenser=分配器; diving_board=跳水板; Dixie_cup=纸杯; dog=狗; dog_collar=狗项圈
doll=洋娃娃; dollar=一美元纸币; dollhouse=玩偶屋; dolphin=海豚; domestic_ass=驴; doorknob=门把手; doormat=门垫
doughnut=甜甜圈; dove=斑鸠; dragonfly=蜻蜓; drawer=抽屉; underdrawers=平角内裤; dress=连衣裙; dress_hat=高顶礼帽
dress_suit=男士晚礼服; dresser=五斗柜; drill=电钻; drone=无人机; dropper=滴管; drum_(musical_instrument)=鼓
drumstick=鼓槌; duck=鸭子; duckling=小鸭; duct_tape=布基胶带; duffel_bag=圆筒行李袋; dumbbell=哑铃
dumpster=大型垃圾箱; dustpan=簸箕; eagle=鹰; earphone=耳机; earplug=耳塞; earring=耳环; easel=画架; eclair=闪电泡芙
eel=鳗鱼; egg=鸡蛋; egg_roll=春卷; egg_yolk=蛋黄; eggbeater=打蛋器; eggplant=茄子; electric_chair=电椅
refrigerator=冰箱; elephant=大象; elk=驼鹿; envelope=信封; eraser=橡皮擦; escargot=法式焗蜗牛; eyepatch=眼罩
falcon=隼; fan=风扇; faucet=水龙头; fedora=费多拉帽; ferret=雪貂; Ferris_wheel=摩天轮; ferry=渡轮; fig_(fruit)=无花果
fighter_jet=战斗机; figurine=小雕像; file_cabinet=文件柜; file_(tool)=锉刀; fire_alarm=火灾报警器; fire_engine=消防车
fire_extinguisher=灭火器; fire_hose=消防水带; fireplace=壁炉; fireplug=消防栓; first-aid_kit=急救箱; fish=鱼
fish_(food)=鱼肉; fishbowl=鱼缸; fishing_rod=钓鱼竿; flag=旗帜; flagpole=旗杆; flamingo=火烈鸟; flannel=法兰绒
flap=挡板; flash=闪光灯; flashlight=手电筒; fleece=抓绒布; flip-flop_(sandal)=人字拖; flipper_(footwear)=脚蹼
flower_arrangement=插花; flute_glass=香槟杯; foal=马驹; folding_chair=折叠椅; food_processor=食物料理机
football_(American)=美式橄榄球; football_helmet=橄榄球头盔; footstool=脚凳; fork=叉子; forklift=叉车
freight_car=货运车厢; French_toast=法式吐司; freshener=空气清新剂; frisbee=飞盘; frog=青蛙; fruit_juice=果汁
frying_pan=煎锅; fudge=乳脂软糖; funnel=漏斗; futon=日式床垫; gag=口塞; garbage=垃圾箱; garbage_truck=垃圾车
garden_hose=花园水管; gargle=漱口水; gargoyle=滴水兽; garlic=大蒜; gasmask=防毒面具; gazelle=瞪羚; gelatin=果冻
gemstone=宝石; generator=发电机; giant_panda=大熊猫; gift_wrap=礼品包装纸; ginger=生姜; giraffe=长颈鹿
cincture=束腰带; glass_(drink_container)=玻璃杯; globe=地球仪; glove=手套; goat=山羊; goggles=护目镜; goldfish=金鱼
golf_club=高尔夫球杆; golfcart=高尔夫球车; gondola_(boat)=贡多拉; goose=鹅; gorilla=大猩猩; gourd=葫芦; grape=葡萄
grater=刨丝器; gravestone=墓碑; gravy_boat=酱汁壶; green_bean=四季豆; green_onion=葱; griddle=煎烤盘; grill=格栅
grits=玉米糁粥; grizzly=灰熊; grocery_bag=食品杂货袋; guitar=吉他; gull=海鸥; gun=枪; hairbrush=发刷; hairnet=发网
hairpin=U形发夹; halter_top=挂脖上衣; ham=火腿; hamburger=汉堡包; hammer=锤子; hammock=吊床; hamper=带盖篮子
hamster=仓鼠; hair_dryer=吹风机; hand_glass=手镜; hand_towel=擦手巾; handcart=手推车; handcuff=手铐; handkerchief=手帕
handle=把手; handsaw=手锯; hardback_book=精装书; harmonium=风琴; hat=帽子; hatbox=帽盒; veil=面纱; headband=发带
headboard=床头板; headlight=车头灯; headscarf=头巾; headset=头戴式耳机; headstall_(for_horses)=马笼头; heart=心脏
heater=加热器; helicopter=直升机; helmet=头盔; heron=鹭; highchair=儿童餐椅; hinge=铰链; hippopotamus=河马
hockey_stick=曲棍球棍; hog=猪; home_plate_(baseball)=本垒板; honey=蜂蜜; fume_hood=抽油烟机; hook=钩子; hookah=水烟壶
hornet=大黄蜂; horse=马; hose=软管; hot-air_balloon=热气球; hotplate=电热炉; hot_sauce=辣酱; hourglass=沙漏
houseboat=船屋; hummingbird=蜂鸟; hummus=鹰嘴豆泥; polar_bear=北极熊; icecream=冰淇淋; popsicle=冰棒; ice_maker=制冰机
ice_pack=冰袋; ice_skate=冰鞋; igniter=打火机; inhaler=吸入器; iPod=iPod播放器; iron_(for_clothing)=熨斗
ironing_board=熨衣板; jacket=夹克; jam=果酱; jar=广口瓶; jean=牛仔裤; jeep=吉普车; jelly_bean=软心豆糖; jersey=T恤衫
jet_plane=喷气式飞机; jewel=珠宝; jewelry=首饰; joystick=操纵杆; jumpsuit=连身衣; kayak=皮划艇; keg=小酒桶
kennel=狗屋; kettle=煮锅; key=钥匙; keycard=门禁卡; kilt=苏格兰裙; kimono=和服; kitchen_sink=厨房水槽
kitchen_table=厨房餐桌; kite=风筝; kitten=小猫; kiwi_fruit=猕猴桃; knee_pad=护膝; knife=刀; knitting_needle=毛衣针
knob=圆把手; knocker_(on_a_door)=门环; koala=考拉; lab_coat=实验服; ladder=梯子; ladle=长柄汤勺; ladybug=瓢虫
lamb_(animal)=羔羊; lamb-chop=羊排; lamp=灯; lamppost=灯柱; lampshade=灯罩; lantern=提灯; lanyard=挂绳
laptop_computer=笔记本电脑; lasagna=千层面; latch=门闩; lawn_mower=割草机; leather=皮革; legging_(clothing)=护腿
Lego=乐高积木; legume=豆类; lemon=柠檬; lemonade=柠檬水; lettuce=生菜; license_plate=车牌; life_buoy=救生圈
life_jacket=救生衣; lightbulb=灯泡; lightning_rod=避雷针; lime=青柠; limousine=豪华轿车; lion=狮子; lip_balm=润唇膏
liquor=烈酒; lizard=蜥蜴; log=原木; lollipop=棒棒糖; speaker_(stereo_equipment)=音箱; loveseat=双人沙发
machine_gun=机关枪; magazine=杂志; magnet=磁铁; mail_slot=投信口; mailbox_(at_home)=信箱; mallard=绿头鸭; mallet=球槌
mammoth=猛犸象; manatee=海牛; mandarin_orange=橘子; manger=饲料槽; manhole=检修井; map=地图; marker=记号笔
martini=马提尼酒; mascot=吉祥物; mashed_potato=土豆泥; masher=捣泥器; mask=面罩; mast=桅杆; mat_(gym_equipment)=体操垫
matchbox=火柴盒; mattress=床垫; measuring_cup=量杯; measuring_stick=尺子; meatball=肉丸; medicine=药品; melon=甜瓜
microphone=麦克风; microscope=显微镜; microwave_oven=微波炉; milestone=里程碑; milk=牛奶; milk_can=牛奶罐
milkshake=奶昔; minivan=小型厢式车; mint_candy=薄荷糖; mirror=镜子; mitten=连指手套; mixer_(kitchen_tool)=立式搅拌器
money=钱; monitor_(computer_equipment) computer_monitor=电脑显示器; monkey=猴子; motor=发动机
motor_scooter=踏板摩托车; motor_vehicle=机动车; motorcycle=摩托车; mound_(baseball)=投手丘
mouse_(computer_equipment)=鼠标; mousepad=鼠标垫; muffin=玛芬蛋糕; mug=马克杯; mushroom=蘑菇; music_stool=琴凳
musical_instrument=乐器; nailfile=指甲锉; napkin=餐巾; neckerchief=领巾; necklace=项链; necktie=领带; needle=针
nest=鸟巢; newspaper=报纸; newsstand=报刊亭; nightshirt=睡袍; nosebag_(for_animals)=饲料袋
noseband_(for_animals)=马鼻带; notebook=笔记本; notepad=便笺本; nut=螺母; nutcracker=坚果钳; oar=船桨
octopus_(food)=章鱼肉; octopus_(animal)=章鱼; oil_lamp=油灯; olive_oil=橄榄油; omelet=煎蛋卷; onion=洋葱
orange_(fruit)=橙子; orange_juice=橙汁; ostrich=鸵鸟; ottoman=软垫凳; oven=烤箱; overalls_(clothing)=背带裤
owl=猫头鹰; packet=小包裹; inkpad=印台; pad=护垫; paddle=短桨; padlock=挂锁; paintbrush=画刷; painting=画作
pajamas=睡衣; palette=调色板; pan_(for_cooking)=平底锅; pan_(metal_container)=金属浅盘; pancake=薄煎饼
pantyhose=连裤袜; papaya=木瓜; paper_plate=纸盘; paper_towel=厨房纸巾; paperback_book=平装书; paperweight=镇纸
parachute=降落伞; parakeet=长尾小鹦鹉; parasail_(sports)=拖曳伞; parasol=遮阳伞; parchment=羊皮纸; parka=连帽防寒服
parking_meter=停车计时器; parrot=鹦鹉; passenger_car_(part_of_a_train)=客车车厢; passenger_ship=客轮; passport=护照
pastry=糕点; patty_(food)=肉饼; pea_(food)=豌豆; peach=桃子; peanut_butter=花生酱; pear=梨
peeler_(tool_for_fruit_and_vegetables)=削皮器; wooden_leg=木制假腿; pegboard=洞洞板; pelican=鹈鹕; pen=笔; pencil=铅笔
pencil_box=铅笔盒; pencil_sharpener=卷笔刀; pendulum=钟摆; penguin=企鹅; pennant=三角旗; penny_(coin)=便士硬币
pepper=胡椒; pepper_mill=胡椒研磨器; perfume=香水; persimmon=柿子; person=人; pet=宠物; pew_(church_bench)=教堂长椅
phonebook=电话簿; phonograph_record=黑胶唱片; piano=钢琴; pickle=腌黄瓜; pickup_truck=皮卡车; pie=馅饼; pigeon=鸽子
piggy_bank=存钱罐; pillow=枕头; pin_(non_jewelry)=大头针; pineapple=菠萝; pinecone=松果; ping-pong_ball=乒乓球
pinwheel=纸风车; tobacco_pipe=烟斗; pipe=管道; pistol=手枪; pita_(bread)=皮塔饼; pitcher_(vessel_for_liquid)=大口水壶
pitchfork=干草叉; pizza=披萨; place_mat=餐垫; plate=盘子; platter=大浅盘; playpen=婴儿围栏; pliers=钳子
plow_(farm_equipment)=犁; plume=羽饰; pocket_watch=怀表; pocketknife=折叠刀; poker_(fire_stirring_tool)=拨火棍
pole=杆子; polo_shirt=POLO衫; poncho=套头斗篷; pony=矮种马; pool_table=台球桌; pop_(soda)=汽水; postbox_(public)=邮筒
postcard=明信片; poster=海报; pot=锅; flowerpot=花盆; potato=土豆; potholder=隔热垫; pottery=陶器; pouch=小袋子
power_shovel=挖掘机; prawn=虾; pretzel=椒盐卷饼; printer=打印机; projectile_(weapon)=投射武器; projector=投影仪
propeller=螺旋桨; prune=西梅干; pudding=布丁; puffer_(fish)=河豚; puffin=海鹦; pug-dog=巴哥犬; pumpkin=南瓜
puncher=打孔器; puppet=提线木偶; puppy=小狗; quesadilla=墨西哥奶酪饼; quiche=法式咸派; quilt=被子; rabbit=兔子
race_car=赛车; racket=球拍; radar=雷达; radiator=散热器; radio_receiver=收音机; radish=萝卜; raft=木筏
rag_doll=布娃娃; raincoat=雨衣; ram_(animal)=公羊; raspberry=树莓; rat=老鼠; razorblade=剃须刀片
reamer_(juicer)=手动榨汁器; rearview_mirror=后视镜; receipt=收据; recliner=可调式躺椅; record_player=唱片机
reflector=反光片; remote_control=遥控器; rhinoceros=犀牛; rib_(food)=肋排; rifle=步枪; ring=戒指; river_boat=内河船
road_map=道路地图; robe=长袍; rocking_chair=摇椅; rodent=啮齿动物; roller_skate=旱冰鞋; Rollerblade=直排轮滑鞋
rolling_pin=擀面杖; root_beer=根汁汽水; router_(computer_equipment)=路由器; rubber_band=橡皮筋
runner_(carpet)=长条地毯; plastic_bag=塑料袋; saddle_(on_an_animal)=鞍座; saddle_blanket=鞍毯; saddlebag=鞍袋
safety_pin=安全别针; sail=船帆; salad=沙拉; salad_plate=沙拉盘; salami=萨拉米香肠; salmon_(fish)=鲑鱼
salmon_(food)=三文鱼肉; salsa=莎莎酱; saltshaker=盐瓶; sandal_(type_of_shoe)=凉鞋; sandwich=三明治; satchel=挎包
saucepan=长柄深锅; saucer=茶碟; sausage=香肠; sawhorse=锯木架; saxophone=萨克斯管; scale_(measuring_instrument)=秤
scarecrow=稻草人; scarf=围巾; school_bus=校车; scissors=剪刀; scoreboard=记分牌; scraper=刮刀; screwdriver=螺丝刀
scrubbing_brush=硬毛刷; sculpture=雕塑; seabird=海鸟; seahorse=海马; seaplane=水上飞机; seashell=贝壳
sewing_machine=缝纫机; shaker=摇瓶; shampoo=洗发水; shark=鲨鱼; sharpener=磨刀器; Sharpie=油性记号笔
shaver_(electric)=电动剃须刀; shaving_cream=剃须膏; shawl=披肩; shears=大剪刀; sheep=绵羊; shepherd_dog=牧羊犬
sherbert=果汁冰糕; shield=盾牌; shirt=衬衫; shoe=鞋子; shopping_bag=购物袋; shopping_cart=购物车; short_pants=短裤
shot_glass=烈酒杯; shoulder_bag=单肩包; shovel=铁锹; shower_head=淋浴喷头; shower_cap=浴帽; shower_curtain=浴帘
shredder_(for_paper)=碎纸机; signboard=招牌; silo=筒仓; sink=水槽; skateboard=滑板; skewer=烤肉签; ski=滑雪板
ski_boot=滑雪靴; ski_parka=滑雪服; ski_pole=滑雪杖; skirt=半身裙; skullcap=小圆帽; sled=雪橇; sleeping_bag=睡袋
sling_(bandage)=三角巾吊带; slipper_(footwear)=拖鞋; smoothie=思慕雪; snake=蛇; snowboard=单板滑雪板; snowman=雪人
snowmobile=雪地摩托; soap=肥皂; soccer_ball=足球; sock=袜子; sofa=沙发; softball=垒球; solar_array=太阳能电池板
sombrero=墨西哥草帽; soup=汤; soup_bowl=汤碗; soupspoon=汤匙; sour_cream=酸奶油; soya_milk=豆浆
space_shuttle=航天飞机; sparkler_(fireworks)=手持烟花; spatula=刮铲; spear=长矛; spectacles=眼镜; spice_rack=调料架
spider=蜘蛛; crawfish=小龙虾; sponge=海绵; spoon=勺子; sportswear=运动服; spotlight=聚光灯; squid_(food)=鱿鱼
squirrel=松鼠; stagecoach=驿站马车; stapler_(stapling_machine)=订书机; starfish=海星; statue_(sculpture)=雕像
steak_(food)=牛排; steak_knife=牛排刀; steering_wheel=方向盘; stepladder=人字梯; step_stool=踏步凳
stereo_(sound_system)=立体声音响; stew=炖菜; stirrer=搅拌棒; stirrup=马镫; stool=凳子; stop_sign=停车标志
brake_light=刹车灯; stove=炉灶; strainer=滤网; strap=带子; straw_(for_drinking)=吸管; strawberry=草莓
street_sign=路牌; streetlight=路灯; string_cheese=手撕奶酪条; stylus=手写笔; subwoofer=低音炮; sugar_bowl=糖罐
sugarcane_(plant)=甘蔗; suit_(clothing)=西服套装; sunflower=向日葵; sunglasses=太阳镜; sunhat=遮阳帽; surfboard=冲浪板
sushi=寿司; mop=拖把; sweat_pants=运动长裤; sweatband=吸汗带; sweater=毛衣; sweatshirt=卫衣; sweet_potato=红薯
swimsuit=泳衣; sword=剑; syringe=注射器; Tabasco_sauce=塔巴斯科辣酱; table-tennis_table=乒乓球台; table=桌子
table_lamp=台灯; tablecloth=桌布; tachometer=转速表; taco=墨西哥塔可; tag=标签; taillight=车尾灯; tambourine=铃鼓
army_tank=坦克; tank_(storage_vessel)=储罐; tank_top_(clothing)=背心; tape_(sticky_cloth_or_paper)=胶带
tape_measure=卷尺; tapestry=挂毯; tarp=防水油布; tartan=格子呢; tassel=流苏; tea_bag=茶包; teacup=茶杯
teakettle=烧水壶; teapot=茶壶; teddy_bear=泰迪熊; telephone=电话; telephone_booth=电话亭; telephone_pole=电线杆
telephoto_lens=长焦镜头; television_camera=电视摄像机; television_set=电视机; tennis_ball=网球; tennis_racket=网球拍
tequila=龙舌兰酒; thermometer=温度计; thermos_bottle=保温瓶; thermostat=恒温器; thimble=顶针; thread=线
thumbtack=图钉; tiara=冠状头饰; tiger=老虎; tights_(clothing)=紧身裤袜; timer=计时器; tinfoil=锡箔纸; tinsel=闪亮彩条
tissue_paper=薄棉纸; toast_(food)=吐司; toaster=烤面包机; toaster_oven=小烤箱; toilet=马桶; toilet_tissue=卫生纸
tomato=番茄; tongs=夹钳; toolbox=工具箱; toothbrush=牙刷; toothpaste=牙膏; toothpick=牙签; cover=盖子
tortilla=墨西哥薄饼; tow_truck=清障车; towel=毛巾; towel_rack=毛巾架; toy=玩具; tractor_(farm_equipment)=拖拉机
traffic_light=红绿灯; dirt_bike=越野摩托车; trailer_truck=半挂卡车; train_(railroad_vehicle)=火车; trampoline=蹦床
tray=托盘; trench_coat=风衣; triangle_(musical_instrument)=三角铁; tricycle=三轮车; tripod=三脚架; trousers=裤子
truck=卡车; truffle_(chocolate)=松露巧克力; trunk=旅行大箱; vat=大缸; turban=缠头巾; turkey_(food)=火鸡肉; turnip=芜菁
turtle=乌龟; turtleneck_(clothing)=高领毛衣; typewriter=打字机; umbrella=雨伞; underwear=内衣; unicycle=独轮车
urinal=小便池; urn=高脚瓮; vacuum_cleaner=吸尘器; vase=花瓶; vending_machine=自动售货机; vent=通风口; vest=马甲
videotape=录像带; vinegar=醋; violin=小提琴; vodka=伏特加; volleyball=排球; vulture=秃鹫; waffle=华夫饼
waffle_iron=华夫饼机; wagon=四轮运货马车; wagon_wheel=马车轮; walking_stick=手杖; wall_clock=挂钟
wall_socket=墙壁插座; wallet=钱包; walrus=海象; wardrobe=衣柜; washbasin=洗手盆; automatic_washer=洗衣机; watch=手表
water_bottle=水瓶; water_cooler=饮水机; water_faucet=自来水龙头; water_heater=热水器; water_jug=水罐; water_gun=水枪
water_scooter=水上摩托; water_ski=滑水板; water_tower=水塔; watering_can=洒水壶; watermelon=西瓜; weathervane=风向标
webcam=网络摄像头; wedding_cake=婚礼蛋糕; wedding_ring=结婚戒指; wet_suit=潜水服; wheel=车轮; wheelchair=轮椅
whipped_cream=打发奶油; whistle=哨子; wig=假发; wind_chime=风铃; windmill=风车; window_box_(for_plants)=窗台花箱
windshield_wiper=雨刮器; windsock=风向袋; wine_bottle=葡萄酒瓶; wine_bucket=冰酒桶; wineglass=葡萄酒杯
blinder_(for_horses)=马眼罩; wok=炒锅; wolf=狼; wooden_spoon=木勺; wreath=花环; wrench=扳手; wristband=护腕
wristlet=腕带; yacht=游艇; yogurt=酸奶; yoke_(animal_equipment)=牛轭; zebra=斑马; zucchini=西葫芦
""")
