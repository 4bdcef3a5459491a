"""Class names of the segmentation benchmarks, English and Chinese, in label order.

English names are the official ones (of ADE20K's synonyms one each), so that figures can be compared. Those of all
of ADE20K and PASCAL Context are in ``class_names_ade847`` and ``class_names_pc459``.
"""

from __future__ import annotations

from typing import Final

Names = tuple[tuple[str, ...], tuple[str, ...]]


def read_table(table: str) -> Names:
    """English and Chinese names of lines like ``cat=猫; dog=狗``."""
    pairs = [entry.strip().split("=") for entry in table.replace("\n", ";").split(";") if entry.strip()]
    return tuple(en for en, _ in pairs), tuple(zh for _, zh in pairs)


# In the order of COCO's ids: 80 things of 1..90, then all stuff, 92..182.
COCO_STUFF: Final = read_table("""
person=人; bicycle=自行车; car=汽车; motorcycle=摩托车; airplane=飞机; bus=公交车; train=火车; truck=卡车; boat=船
traffic light=红绿灯; fire hydrant=消防栓; stop sign=停车标志; parking meter=停车计时器; bench=长椅; bird=鸟; cat=猫
dog=狗; horse=马; sheep=羊; cow=牛; elephant=大象; bear=熊; zebra=斑马; giraffe=长颈鹿; backpack=背包; umbrella=雨伞
handbag=手提包; tie=领带; suitcase=行李箱; frisbee=飞盘; skis=滑雪板; snowboard=单板滑雪板; sports ball=运动球
kite=风筝; baseball bat=棒球棒; baseball glove=棒球手套; skateboard=滑板; surfboard=冲浪板; tennis racket=网球拍
bottle=瓶子; wine glass=酒杯; cup=杯子; fork=叉子; knife=刀; spoon=勺子; bowl=碗; banana=香蕉; apple=苹果
sandwich=三明治; orange=橙子; broccoli=西兰花; carrot=胡萝卜; hot dog=热狗; pizza=披萨; donut=甜甜圈; cake=蛋糕
chair=椅子; couch=沙发; potted plant=盆栽; bed=床; dining table=餐桌; toilet=马桶; tv=电视; laptop=笔记本电脑
mouse=鼠标; remote=遥控器; keyboard=键盘; cell phone=手机; microwave=微波炉; oven=烤箱; toaster=烤面包机; sink=水槽
refrigerator=冰箱; book=书; clock=时钟; vase=花瓶; scissors=剪刀; teddy bear=泰迪熊; hair drier=吹风机
toothbrush=牙刷; banner=横幅; blanket=毯子; branch=树枝; bridge=桥; building-other=其他建筑; bush=灌木; cabinet=柜子
cage=笼子; cardboard=纸板; carpet=地毯; ceiling-other=其他天花板; ceiling-tile=瓷砖天花板; cloth=布; clothes=衣服
clouds=云; counter=柜台; cupboard=橱柜; curtain=窗帘; desk-stuff=书桌; dirt=泥土; door-stuff=门; fence=栅栏
floor-marble=大理石地板; floor-other=其他地板; floor-stone=石地板; floor-tile=瓷砖地板; floor-wood=木地板; flower=花
fog=雾; food-other=其他食物; fruit=水果; furniture-other=其他家具; grass=草; gravel=碎石; ground-other=其他地面
hill=小山; house=房子; leaves=树叶; light=灯; mat=垫子; metal=金属; mirror-stuff=镜子; moss=苔藓; mountain=山
mud=泥浆; napkin=餐巾; net=网; paper=纸; pavement=人行道; pillow=枕头; plant-other=其他植物; plastic=塑料
platform=站台; playingfield=运动场; railing=栏杆; railroad=铁路; river=河流; road=道路; rock=岩石; roof=屋顶
rug=小地毯; salad=沙拉; sand=沙子; sea=海; shelf=架子; sky-other=天空; skyscraper=摩天大楼; snow=雪
solid-other=其他固体; stairs=楼梯; stone=石头; straw=稻草; structural-other=其他结构; table=桌子; tent=帐篷
textile-other=其他纺织品; towel=毛巾; tree=树; vegetable=蔬菜; wall-brick=砖墙; wall-concrete=混凝土墙
wall-other=其他墙; wall-panel=墙板; wall-stone=石墙; wall-tile=瓷砖墙; wall-wood=木墙; water-other=水
waterdrops=水滴; window-blind=百叶窗; window-other=窗户; wood=木头
""")

COCO_STUFF_IDS: Final = tuple(
    number for number in range(1, 183) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
)
"""COCO's id of each COCO-Stuff class; the masks hold these less one."""

ADE_150: Final = read_table("""
wall=墙; building=建筑; sky=天空; floor=地板; tree=树; ceiling=天花板; road=道路; bed=床; window=窗户; grass=草地
cabinet=柜子; sidewalk=人行道; person=人; earth=土地; door=门; table=桌子; mountain=山; plant=植物; curtain=窗帘
chair=椅子; car=汽车; water=水; painting=画; sofa=沙发; shelf=架子; house=房子; sea=海; mirror=镜子; rug=地毯
field=田野; armchair=扶手椅; seat=座位; fence=栅栏; desk=书桌; rock=岩石; wardrobe=衣柜; lamp=灯; tub=浴缸
rail=护栏; cushion=靠垫; pedestal=底座; box=盒子; column=柱子; signboard=招牌; chest of drawers=抽屉柜; counter=柜台
sand=沙子; sink=水槽; skyscraper=摩天大楼; fireplace=壁炉; refrigerator=冰箱; grandstand=看台; path=小路
stairs=楼梯; runway=跑道; display case=展示柜; pool table=台球桌; pillow=枕头; screen door=纱门; stairway=阶梯
river=河流; bridge=桥; bookcase=书柜; blind=百叶窗; coffee table=茶几; toilet=马桶; flower=花; book=书; hill=小山
bench=长椅; countertop=台面; stove=炉灶; palm=棕榈树; kitchen island=厨房中岛; computer=电脑; swivel chair=转椅
boat=小船; bar=吧台; arcade machine=街机; hovel=棚屋; bus=公交车; towel=毛巾; light=灯光; truck=卡车; tower=塔
chandelier=吊灯; awning=遮阳篷; street lamp=路灯; booth=亭子; tv=电视; plane=飞机; dirt track=土路; clothes=衣服
pole=杆子; land=地面; bannister=栏杆扶手; escalator=自动扶梯; ottoman=软垫凳; bottle=瓶子; buffet=餐具柜
poster=海报; stage=舞台; van=面包车; ship=轮船; fountain=喷泉; conveyor belt=传送带; canopy=顶篷; washer=洗衣机
plaything=玩具; pool=游泳池; stool=凳子; barrel=桶; basket=篮子; falls=瀑布; tent=帐篷; bag=包; minibike=小型摩托车
cradle=摇篮; oven=烤箱; ball=球; food=食物; step=台阶; tank=储罐; trade name=商标; microwave=微波炉; pot=花盆
animal=动物; bicycle=自行车; lake=湖; dishwasher=洗碗机; screen=投影幕布; blanket=毯子; sculpture=雕塑
exhaust hood=抽油烟机; sconce=壁灯; vase=花瓶; traffic light=红绿灯; tray=托盘; trash can=垃圾桶; fan=风扇
pier=码头; crt screen=显像管屏幕; plate=盘子; monitor=显示器; bulletin board=公告板; shower=淋浴; radiator=暖气片
glass=玻璃杯; clock=时钟; flag=旗帜
""")

PC_59: Final = read_table("""
aeroplane=飞机; bag=包; bed=床; bedclothes=床上用品; bench=长椅; bicycle=自行车; bird=鸟; boat=船; book=书
bottle=瓶子; building=建筑; bus=公交车; cabinet=柜子; car=汽车; cat=猫; ceiling=天花板; chair=椅子; cloth=布
computer=电脑; cow=牛; cup=杯子; curtain=窗帘; dog=狗; door=门; fence=栅栏; floor=地板; flower=花; food=食物
grass=草; ground=地面; horse=马; keyboard=键盘; light=灯; motorbike=摩托车; mountain=山; mouse=鼠标; person=人
plate=盘子; platform=站台; pottedplant=盆栽; road=道路; rock=岩石; sheep=羊; shelves=架子; sidewalk=人行道
sign=标志; sky=天空; snow=雪; sofa=沙发; table=桌子; track=轨道; train=火车; tree=树; truck=卡车
tvmonitor=电视显示器; wall=墙; water=水; window=窗户; wood=木头
""")

VOC_20: Final = read_table("""
aeroplane=飞机; bicycle=自行车; bird=鸟; boat=船; bottle=瓶子; bus=公交车; car=汽车; cat=猫; chair=椅子; cow=牛
diningtable=餐桌; dog=狗; horse=马; motorbike=摩托车; person=人; pottedplant=盆栽; sheep=羊; sofa=沙发; train=火车
tvmonitor=电视显示器
""")
