"""The list of the embedded world's things, by group: which glyphs take part and what they are called.

The names began as those of the `emoji` package (Unicode CLDR) and were made into plain nouns that say what OpenMoji
draws, without colour or size words. They stand here, not in that package, so that an update cannot rename a class.

Left out on purpose: flags, skin tones, lettered and keycap glyphs, arrows, buttons, clock faces, moon phases, coloured
hearts, circles and squares (they clash with the colour attributes), animal heads of animals that are there in full,
gendered copies of one activity, and glyphs that cannot be told from a neighbour at 40 px.

One entry is `glyph=english/chinese`; underscores are spaces, and `*` after the English name marks one that takes no
article and no number (`grapes*`). A third name is a measure word that is not its group's (`bomb/炸弹/颗`).
"""

from __future__ import annotations

# (group, Chinese measure word, entries). Members of one group are each other's near-swap candidates.
TABLE: tuple[tuple[str, str, str], ...] = (
    (
        "face-glad",
        "张",
        """
😀=grinning_face/咧嘴笑脸 😂=face_with_tears_of_joy/笑哭的脸 😇=smiling_face_with_halo/天使笑脸
😍=heart-eyed_face/花痴脸 🤩=star-struck_face/星星眼脸 😘=face_blowing_a_kiss/飞吻脸 😛=face_with_tongue/吐舌脸
🤑=money-mouth_face/钞票嘴脸 🤗=hugging_face/拥抱脸 🤠=cowboy_face/牛仔脸 🥳=partying_face/派对脸
😎=face_with_sunglasses/戴墨镜的脸 🤓=nerd_face/书呆子脸 🧐=face_with_monocle/单片眼镜脸 🤡=clown_face/小丑脸
🫠=melting_face/融化的脸
""",
    ),
    (
        "face-sad",
        "张",
        """
🤔=thinking_face/思考脸 🤐=zipper-mouth_face/拉链嘴脸 😴=sleeping_face/睡着的脸
😷=face_with_medical_mask/戴口罩的脸 🤒=face_with_thermometer/发烧的脸 🤕=bandaged_face/绷带脸
🤢=nauseated_face/恶心的脸 🤮=vomiting_face/呕吐的脸 🤧=sneezing_face/打喷嚏的脸 🥶=freezing_face/冻僵的脸
🤯=exploding_head/爆炸头 😱=screaming_face/尖叫的脸 😭=loudly_crying_face/大哭的脸 😡=enraged_face/愤怒的脸
🤬=cursing_face/骂人的脸 😤=steaming_face/鼻孔冒气的脸 🤥=lying_face/说谎的脸 🫡=saluting_face/敬礼的脸
🫣=peeking_face/偷看的脸 🥱=yawning_face/打呵欠的脸 😵‍💫=spiral-eyed_face/螺旋眼脸 🤤=drooling_face/流口水的脸
""",
    ),
    (
        "fantasy",
        "个",
        """
😈=smiling_devil/微笑的恶魔 💀=skull/头骨 💩=pile_of_poo/大便 👹=ogre/食人魔 👺=goblin/天狗 👻=ghost/幽灵
👽=alien/外星人 👾=space_invader/像素怪物 🤖=robot/机器人 🎅=santa_claus/圣诞老人 🤶=mrs._claus/圣诞奶奶
🧙=mage/法师 🧚=fairy/仙女 🧛=vampire/吸血鬼 🧜=merperson/人鱼 🧞=genie/灯神 🧟=zombie/僵尸 🧌=troll/巨怪
👼=baby_angel/小天使 🦸=superhero/超级英雄 🥷=ninja/忍者 🐉=dragon/龙 🦄=unicorn/独角兽 🐦‍🔥=phoenix/凤凰
""",
    ),
    (
        "hand",
        "只",
        """
👋=waving_hand/挥动的手 🖖=vulcan_salute/瓦肯手礼 👌=ok_hand/好的手势 🤏=pinching_hand/捏合的手
✌=victory_hand/胜利手势 🤞=crossed_fingers*/交叉的手指 🤘=sign_of_the_horns/摇滚手势 🤙=call_me_hand/打电话手势
👍=thumbs_up/竖起的大拇指 👎=thumbs_down/朝下的大拇指 👏=clapping_hands*/鼓掌的手 🤝=handshake/握手
🙏=folded_hands*/合十的双手 ✍=writing_hand/写字的手 💅=nail_polish/指甲油 🤳=selfie/自拍 ☝=index_finger/食指
🫶=heart_hands*/比心的双手
""",
    ),
    (
        "body",
        "个",
        """
💪=flexed_biceps/肱二头肌 🦾=mechanical_arm/机械手臂 🦿=mechanical_leg/机械腿 🦵=leg/腿 🦶=foot/脚 👂=ear/耳朵
👃=nose/鼻子 🧠=brain/大脑 🫀=anatomical_heart/心脏 🫁=lungs*/肺 🦷=tooth/牙齿 🦴=bone/骨头 👀=eyes*/双眼
👁=eye/眼睛 👅=tongue/舌头 👄=mouth/嘴 💋=kiss_mark/唇印 👣=footprints*/脚印 🫆=fingerprint/指纹
🦻=ear_with_hearing_aid/戴助听器的耳朵
""",
    ),
    (
        "person-role",
        "位",
        """
👶=baby/婴儿 👨=man/男人 👩=woman/女人 👴=old_man/老爷爷 👵=old_woman/老奶奶
🧕=woman_with_headscarf/戴头巾的女人 👳=person_with_turban/缠头巾的人 👮=police_officer/警察 🕵=detective/侦探
💂=royal_guard/卫兵 👷=construction_worker/建筑工人 🤴=prince/王子 👸=princess/公主
👰=person_with_veil/戴头纱的人 🤰=pregnant_woman/孕妇 🧑‍⚕️=health_worker/医务人员 🧑‍🎓=student/学生
🧑‍🏫=teacher/教师 🧑‍⚖️=judge/法官 🧑‍🌾=farmer/农民 🧑‍🍳=cook/厨师 🧑‍🔧=mechanic/技工 🧑‍🏭=factory_worker/工厂工人
🧑‍🔬=scientist/科学家 🧑‍💻=programmer/程序员 🧑‍🎤=singer/歌手 🧑‍🎨=painter/画家 🧑‍✈️=pilot/飞行员
🧑‍🚀=astronaut/宇航员 🧑‍🚒=firefighter/消防员 👪=family/家庭 👯=dancers_with_bunny_ears*/戴兔耳的舞者
""",
    ),
    (
        "person-activity",
        "个",
        """
🙅=person_gesturing_no/拒绝的人 🙇=bowing_person/鞠躬的人 🤦=facepalming_person/捂脸的人
💆=person_getting_massage/按摩的人 💇=person_getting_haircut/理发的人 🚶=walking_person/行人
🏃=running_person/跑步的人 🕺=dancer/跳舞的人 🧗=climbing_person/攀岩的人 🤺=fencer/击剑选手 🏇=horse_race/赛马
⛷=skier/滑雪的人 🏂=snowboarder/单板滑雪的人 🏌=golfer/打高尔夫的人 🏄=surfer/冲浪的人 🚣=rower/划船的人
🏊=swimmer/游泳的人 ⛹=person_bouncing_ball/拍球的人 🏋=weightlifter/举重的人 🚴=cyclist/骑自行车的人
🤸=cartwheeling_person/侧手翻的人 🤼=wrestlers*/摔跤选手 🤽=water_polo_player/水球运动员
🤾=handball_player/手球运动员 🤹=juggler/杂耍的人 🧘=meditating_person/打坐的人
""",
    ),
    (
        "animal-mammal",
        "只",
        """
🙈=see-no-evil_monkey/蒙眼猴 🐒=monkey/猴子 🦍=gorilla/大猩猩 🦧=orangutan/红毛猩猩 🐕=dog/狗 🐺=wolf/狼
🦊=fox/狐狸 🦝=raccoon/浣熊 🐈=cat/猫 🦁=lion/狮子 🐅=tiger/老虎 🐆=leopard/豹子 🐎=horse/马/匹 🦓=zebra/斑马/匹
🦌=deer/鹿 🦬=bison/野牛 🐂=ox/公牛 🐃=water_buffalo/水牛 🐄=cow/奶牛 🐖=pig/猪 🐗=boar/野猪 🐽=pig_nose/猪鼻子
🐏=ram/公羊 🐑=sheep/绵羊 🐐=goat/山羊 🐫=camel/骆驼 🦙=llama/羊驼 🦒=giraffe/长颈鹿 🐘=elephant/大象
🦣=mammoth/猛犸象 🦏=rhinoceros/犀牛 🦛=hippopotamus/河马 🐁=mouse/老鼠 🐹=hamster/仓鼠 🐇=rabbit/兔子
🐿=chipmunk/松鼠 🦫=beaver/海狸 🦔=hedgehog/刺猬 🦇=bat/蝙蝠 🐻=bear/熊 🐻‍❄️=polar_bear/北极熊 🐨=koala/考拉
🐼=panda/熊猫 🦥=sloth/树懒 🦦=otter/水獭 🦨=skunk/臭鼬 🦘=kangaroo/袋鼠 🦡=badger/獾 🐾=paw_prints*/爪印
🫎=moose/驼鹿 🫏=donkey/驴
""",
    ),
    (
        "animal-bird",
        "只",
        """
🦃=turkey/火鸡 🐔=chicken/鸡 🐓=rooster/公鸡 🐣=hatching_chick/破壳小鸡 🐤=chick/小鸡 🐧=penguin/企鹅
🕊=dove/鸽子 🦅=eagle/鹰 🦆=duck/鸭子 🦢=swan/天鹅 🦉=owl/猫头鹰 🦤=dodo/渡渡鸟 🪶=feather/羽毛
🦩=flamingo/火烈鸟 🦚=peacock/孔雀 🦜=parrot/鹦鹉 🪽=wing/翅膀 🪿=goose/鹅 🪹=empty_nest/空鸟巢
🪺=nest_with_eggs/有蛋的鸟巢
""",
    ),
    (
        "animal-water",
        "只",
        """
🐸=frog/青蛙 🐊=crocodile/鳄鱼 🐢=turtle/乌龟 🦎=lizard/蜥蜴 🐍=snake/蛇 🦕=sauropod/蜥脚龙 🦖=t-rex/霸王龙
🐳=whale/鲸鱼 🐬=dolphin/海豚 🦭=seal/海豹 🐟=fish/鱼 🐠=tropical_fish/热带鱼 🐡=blowfish/河豚 🦈=shark/鲨鱼
🐙=octopus/章鱼 🐚=spiral_shell/海螺 🪸=coral/珊瑚 🪼=jellyfish/水母 🦀=crab/螃蟹 🦞=lobster/龙虾 🦐=shrimp/虾
🦑=squid/鱿鱼 🦪=oyster/牡蛎
""",
    ),
    (
        "animal-bug",
        "只",
        """
🐌=snail/蜗牛 🦋=butterfly/蝴蝶 🐛=caterpillar/毛毛虫 🐜=ant/蚂蚁 🐝=bee/蜜蜂 🪲=beetle/甲虫 🐞=ladybug/瓢虫
🦗=cricket/蟋蟀 🪳=cockroach/蟑螂 🕷=spider/蜘蛛 🕸=spider_web/蜘蛛网 🦂=scorpion/蝎子 🦟=mosquito/蚊子
🪰=fly/苍蝇 🪱=worm/蠕虫 🦠=microbe/细菌
""",
    ),
    (
        "plant",
        "棵",
        """
💐=bouquet/花束 🌸=cherry_blossom/樱花 🪷=lotus/莲花 🏵=rosette/圆形花饰 🌹=rose/玫瑰 🥀=wilted_flower/枯萎的花
🌺=hibiscus/芙蓉花 🌻=sunflower/向日葵 🌼=daisy/雏菊 🌷=tulip/郁金香 🪻=hyacinth/风信子 🌱=seedling/幼苗
🪴=potted_plant/盆栽 🌲=evergreen_tree/松树 🌳=leafy_tree/阔叶树 🌴=palm_tree/棕榈树 🌵=cactus/仙人掌
🌾=sheaf_of_rice/稻穗 🌿=herb/药草 ☘=shamrock/三叶草 🍀=four-leaf_clover/四叶草 🍁=maple_leaf/枫叶
🍂=fallen_leaves*/落叶 🍄=mushroom/蘑菇 🪾=leafless_tree/枯树 🎍=pine_decoration/门松 🎄=christmas_tree/圣诞树
🎋=tanabata_tree/七夕竹
""",
    ),
    (
        "food-fruit",
        "个",
        """
🍇=grapes*/葡萄 🍈=melon/甜瓜 🍉=watermelon/西瓜 🍊=tangerine/橘子 🍋=lemon/柠檬 🍌=banana/香蕉
🍍=pineapple/菠萝 🥭=mango/芒果 🍎=apple/苹果 🍐=pear/梨 🍑=peach/桃子 🍒=cherries*/樱桃 🍓=strawberry/草莓
🫐=blueberries*/蓝莓 🥝=kiwi_fruit/猕猴桃 🍅=tomato/西红柿 🫒=olive/橄榄 🥥=coconut/椰子
""",
    ),
    (
        "food-vegetable",
        "个",
        """
🥑=avocado/牛油果 🍆=eggplant/茄子 🥔=potato/土豆 🥕=carrot/胡萝卜 🌽=corn*/玉米 🌶=hot_pepper/辣椒
🫑=bell_pepper/灯笼椒 🥒=cucumber/黄瓜 🥬=leafy_vegetable/青菜 🥦=broccoli*/西兰花 🧄=garlic*/大蒜 🧅=onion/洋葱
🥜=peanuts*/花生 🫘=beans*/豆子 🌰=chestnut/栗子 🫚=ginger*/生姜 🫛=pea_pod/豌豆荚 🍠=sweet_potato/红薯
""",
    ),
    (
        "food-dish",
        "份",
        """
🍞=bread*/面包 🥐=croissant/羊角面包 🥖=baguette/法棍 🫓=flatbread/扁面包 🥨=pretzel/椒盐卷饼 🥯=bagel/百吉饼
🥞=pancakes*/松饼 🧇=waffle/华夫饼 🧀=cheese*/奶酪 🍖=meat_on_bone*/带骨肉 🍗=poultry_leg/鸡腿 🥩=steak/牛排
🥓=bacon*/培根 🍔=hamburger/汉堡 🍟=french_fries*/薯条 🍕=pizza/披萨 🌭=hot_dog/热狗 🥪=sandwich/三明治
🌮=taco/塔可 🌯=burrito/墨西哥卷饼 🫔=tamale/墨西哥粽子 🥙=pita_wrap/皮塔卷饼 🧆=falafel*/炸豆丸子 🥚=egg/鸡蛋
🍳=fried_egg/煎蛋 🥘=paella*/海鲜饭 🍲=stew*/炖菜 🫕=fondue*/奶酪火锅 🥗=salad/沙拉 🍿=popcorn*/爆米花
🧈=butter*/黄油 🧂=salt_shaker/盐瓶 🥫=canned_food*/罐头
""",
    ),
    (
        "food-asian",
        "份",
        """
🍱=bento_box/便当 🍘=rice_cracker/米饼 🍙=rice_ball/饭团 🍚=bowl_of_rice/米饭 🍛=curry_rice*/咖喱饭
🍜=noodle_bowl/汤面 🍝=spaghetti*/意大利面 🍢=oden*/关东煮 🍣=sushi*/寿司 🍤=fried_shrimp/炸虾 🍥=fish_cake/鱼板
🥮=mooncake/月饼 🍡=dango*/日式团子 🥟=dumpling/饺子 🥠=fortune_cookie/幸运饼干 🥡=takeout_box/外卖盒
""",
    ),
    (
        "food-sweet",
        "份",
        """
🍦=soft_ice_cream/甜筒冰淇淋 🍨=ice_cream_bowl/冰淇淋杯 🍩=doughnut/甜甜圈 🍪=cookie/曲奇饼干
🎂=birthday_cake/生日蛋糕 🍰=shortcake/奶油蛋糕 🧁=cupcake/纸杯蛋糕 🥧=pie/馅饼 🍫=chocolate_bar/巧克力
🍬=candy/糖果 🍭=lollipop/棒棒糖 🍮=custard_pudding/布丁 🍯=honey_pot/蜂蜜罐
""",
    ),
    (
        "drink-tableware",
        "个",
        """
🍼=baby_bottle/奶瓶 🥛=glass_of_milk/牛奶杯 ☕=hot_drink/热饮 🫖=teapot/茶壶 🍵=bowl_of_tea/茶碗
🍶=sake_bottle/清酒瓶 🍾=champagne_bottle/香槟酒瓶 🍷=wine_glass/红酒杯 🍸=cocktail_glass/鸡尾酒杯
🍹=tropical_drink/热带饮料 🍺=beer_mug/啤酒杯 🥂=clinking_glasses*/碰杯 🫗=pouring_glass/倾倒的杯子
🥤=cup_with_straw/吸管杯 🧋=bubble_tea*/珍珠奶茶 🧃=juice_box/果汁盒 🧉=mate_tea*/马黛茶 🧊=ice_cube/冰块
🥢=chopsticks*/筷子 🍽=plate_with_cutlery/餐盘刀叉 🍴=fork_and_knife*/刀叉 🥄=spoon/勺子 🔪=kitchen_knife/菜刀
🫙=jar/罐子 🏺=amphora/双耳瓶 🥣=bowl_with_spoon/碗和勺子 🧺=basket/篮子 🪣=bucket/水桶
""",
    ),
    (
        "place-nature",
        "座",
        """
🌍=globe/地球 🗺=world_map/世界地图 🧭=compass/指南针 🏔=snowy_mountain/雪山 🌋=volcano/火山 🏕=campsite/露营地
🏖=beach_umbrella/沙滩遮阳伞 🏜=desert/沙漠 🏝=desert_island/荒岛 🏞=national_park/国家公园 🪨=rock/岩石 🪵=log/原木
🌅=sunrise/日出 🌉=bridge_at_night/夜桥 🌃=starry_night/星夜 🌊=water_wave/海浪 🌌=milky_way*/银河
""",
    ),
    (
        "place-building",
        "座",
        """
🏟=stadium/体育场 🏛=classical_building/古典建筑 🏗=construction_crane/施工吊车 🧱=brick_wall/砖墙 🛖=hut/茅屋
🏘=row_of_houses/住宅区 🏚=derelict_house/破房子 🏠=house/房子 🏢=office_building/办公楼 🏥=hospital/医院
🏦=bank/银行 🏨=hotel/酒店 🏪=convenience_store/便利店 🏫=school/学校 🏬=department_store/百货商场
🏭=factory/工厂 🏯=japanese_castle/日本城堡 🏰=castle/欧洲城堡 💒=wedding_chapel/婚礼教堂 🗼=tokyo_tower*/东京塔
🗽=statue_of_liberty*/自由女神像 ⛪=church/教堂 🕌=mosque/清真寺 🛕=hindu_temple/印度寺庙 🕍=synagogue/犹太会堂
⛩=shinto_shrine/鸟居 🕋=kaaba*/克尔白 ⛲=fountain/喷泉 ⛺=tent/帐篷 🏙=city_skyline/城市天际线
🎠=carousel_horse/旋转木马 🛝=playground_slide/滑梯 🎡=ferris_wheel/摩天轮 🎢=roller_coaster/过山车
💈=barber_pole/理发店灯柱 🎪=circus_tent/马戏团帐篷 🚏=bus_stop/公交站牌 ⛽=fuel_pump/加油机
🚥=traffic_light/红绿灯
""",
    ),
    (
        "vehicle-road",
        "辆",
        """
🚂=steam_locomotive/蒸汽火车头 🚃=railway_car/火车车厢 🚄=high-speed_train/高速列车 🚇=metro_train/地铁
🚊=tram/有轨电车 🚝=monorail/单轨列车 🚞=mountain_railway/山区铁路 🚌=bus/公交车 🚐=minibus/面包车
🚑=ambulance/救护车 🚒=fire_engine/消防车 🚓=police_car/警车 🚕=taxi/出租车 🚗=car/汽车
🚙=off-road_vehicle/越野车 🛻=pickup_truck/皮卡 🚚=delivery_truck/货车 🚛=semi-trailer_truck/半挂卡车
🚜=tractor/拖拉机 🏎=racing_car/赛车 🏍=motorcycle/摩托车 🛵=motor_scooter/小型摩托车 🦽=wheelchair/轮椅
🛺=auto_rickshaw/三轮摩托车 🚲=bicycle/自行车 🛴=kick_scooter/滑板车 🛹=skateboard/滑板 🛼=roller_skate/轮滑鞋
🛞=wheel/车轮 🛣=motorway/高速公路
""",
    ),
    (
        "vehicle-water-air",
        "艘",
        """
⚓=anchor/船锚/个 🛟=ring_buoy/救生圈/个 ⛵=sailboat/帆船 🛶=canoe/独木舟 🚤=speedboat/快艇 🚢=ship/轮船
✈=airplane/飞机/架 🪂=parachute/降落伞/顶 💺=seat/座椅/把 🚁=helicopter/直升机/架 🚡=aerial_tramway/空中缆车/辆
🛰=satellite/人造卫星/颗 🚀=rocket/火箭/枚 🛸=flying_saucer/飞碟/架
""",
    ),
    (
        "travel-sign",
        "个",
        """
🚨=police_light/警灯 🛑=stop_sign/停止标志 🚧=road_barrier/施工路障 🛎=service_bell/服务铃 🧳=suitcase/行李箱
🚩=triangular_flag/三角旗 ⚠=warning_sign/警告标志 ☢=radiation_sign/辐射标志 ☣=biohazard_sign/生物危害标志
♻=recycling_symbol/回收标志 🚭=no_smoking_sign/禁烟标志 🚻=restroom_sign/卫生间标志 ⚛=atom_symbol/原子符号
☯=yin-yang_symbol/阴阳符号 ☮=peace_symbol/和平符号 ⚜=fleur-de-lis/百合花饰 🔱=trident/三叉戟
♾=infinity_symbol/无穷大符号 ❓=question_mark/问号 ❗=exclamation_mark/感叹号 💯=hundred_points_sign/一百分标志
✔=check_mark/对勾 ❌=cross_mark/叉号
""",
    ),
    (
        "time-weather",
        "个",
        """
⌛=hourglass/沙漏 ⌚=wristwatch/手表 ⏰=alarm_clock/闹钟 ⏱=stopwatch/秒表 🕰=mantelpiece_clock/座钟
🌙=crescent_moon/弯月 🌡=thermometer/温度计 ☀=sun/太阳 🪐=ringed_planet/有环行星 ⭐=star/星星
🌠=shooting_star/流星 ☁=cloud/云 ⛅=sun_behind_cloud/云后的太阳 ⛈=thundercloud/雷雨云 🌧=rain_cloud/雨云
🌪=tornado/龙卷风 🌬=wind_face/吹风的脸 🌀=cyclone/气旋 🌈=rainbow/彩虹 ☂=umbrella/雨伞 ⚡=lightning_bolt/闪电
❄=snowflake/雪花 ⛄=snowman/雪人 ☄=comet/彗星 🔥=fire*/火焰 💧=water_drop/水滴 🫧=bubbles*/气泡
""",
    ),
    (
        "festival",
        "个",
        """
🎃=jack-o-lantern/南瓜灯 🎆=fireworks*/烟火 🧨=firecracker/爆竹 ✨=sparkles*/闪光 🎈=balloon/气球
🎉=party_popper/彩带筒 🎊=confetti_ball/彩纸球 🎎=japanese_dolls*/日本人偶 🎏=carp_streamer/鲤鱼旗
🎐=wind_chime/风铃 🧧=lucky_money_envelope/红包 🎀=ribbon_bow/蝴蝶结 🎁=gift_box/礼物盒 🎗=reminder_ribbon/丝带
🎟=admission_ticket/入场券 🎖=military_medal/军功章 🏆=trophy/奖杯 🏅=sports_medal/奖牌 🏮=paper_lantern/灯笼
🪔=oil_lamp/油灯
""",
    ),
    (
        "sport",
        "个",
        """
⚽=soccer_ball/足球 ⚾=baseball/棒球 🏀=basketball/篮球 🏐=volleyball/排球 🏈=american_football/美式橄榄球
🎾=tennis_ball/网球 🥏=flying_disc/飞盘 🎳=bowling_pins*/保龄球 🏏=cricket_bat/板球棒
🏑=field_hockey_stick/曲棍球棍 🏒=ice_hockey_stick/冰球棍 🥍=lacrosse_stick/兜网球棍
🏓=table_tennis_bat/乒乓球拍 🏸=badminton_racket/羽毛球拍 🥊=boxing_glove/拳击手套
🥋=martial_arts_uniform/武术服 🥅=goal_net/球门 ⛳=golf_hole/高尔夫球洞 ⛸=ice_skate/冰鞋 🎣=fishing_rod/钓鱼竿
🤿=diving_mask/潜水面罩 🎿=skis*/滑雪板 🛷=sled/雪橇 🥌=curling_stone/冰壶 🎯=dartboard/飞镖靶
""",
    ),
    (
        "game",
        "个",
        """
🪀=yo-yo/悠悠球 🪁=kite/风筝 🎱=billiard_ball/台球 🔮=crystal_ball/水晶球 🪄=magic_wand/魔杖
🎮=game_controller/游戏手柄 🕹=joystick/游戏摇杆 🎰=slot_machine/老虎机 🎲=dice*/骰子 🧩=puzzle_piece/拼图块
🧸=teddy_bear/泰迪熊 🪅=pinata/皮纳塔 🪩=mirror_ball/迪斯科球 🪆=nesting_doll/套娃 ♠=spade/黑桃
♣=club_suit/梅花花色 ♟=chess_pawn/国际象棋兵 🃏=joker_card/小丑牌 🀄=mahjong_tile/麻将牌 🎴=flower_card/花札
🎭=theatre_masks*/戏剧面具 🖼=framed_picture/画框 🎨=artist_palette/调色板
""",
    ),
    (
        "craft",
        "个",
        """
🧵=spool_of_thread/线轴 🪡=sewing_needle/缝衣针 🧶=ball_of_yarn/毛线球 🪢=knot/绳结 🧷=safety_pin/安全别针
🪮=hair_pick/发梳 ✂=scissors*/剪刀 📎=paperclip/回形针 📌=pushpin/图钉 📏=ruler/直尺 📐=set_square/三角尺
🖍=crayon/蜡笔 🖌=paintbrush/画笔 🖊=pen/圆珠笔 🖋=fountain_pen/钢笔 ✏=pencil/铅笔 🪥=toothbrush/牙刷
""",
    ),
    (
        "clothing",
        "件",
        """
👓=glasses*/眼镜 🕶=sunglasses*/墨镜 🥽=goggles*/护目镜 🥼=lab_coat/白大褂 🦺=safety_vest/反光背心
👔=shirt_and_tie/衬衫领带 👕=t-shirt/短袖衫 👖=jeans*/牛仔裤 🧣=scarf/围巾 🧤=gloves*/手套 🧥=coat/外套
🧦=sock/袜子 👗=dress/连衣裙 👘=kimono/和服 🥻=sari/纱丽 🩱=swimsuit/连体泳衣 🩲=briefs*/三角裤 🩳=shorts*/短裤
👙=bikini/比基尼 👚=blouse/女式衬衫 🎽=running_shirt/运动背心
""",
    ),
    (
        "accessory",
        "个",
        """
🪭=folding_fan/折扇 👛=purse/钱包 👜=handbag/手提包 👝=clutch_bag/手拿包 🛍=shopping_bag/购物袋 🎒=backpack/书包
🩴=flip-flop/人字拖 👞=leather_shoe/皮鞋 👟=running_shoe/跑鞋 🥾=hiking_boot/登山靴 🥿=flat_shoe/平底鞋
👠=high-heeled_shoe/高跟鞋 👡=sandal/凉鞋 👢=tall_boot/长靴 👑=crown/王冠 👒=sun_hat/女式帽子 🎩=top_hat/礼帽
🎓=graduation_cap/学士帽 🧢=baseball_cap/棒球帽 🪖=military_helmet/军用头盔 ⛑=rescue_helmet/救援头盔
📿=prayer_beads*/念珠 💄=lipstick/口红 💍=ring/戒指 💎=gemstone/宝石
""",
    ),
    (
        "music",
        "个",
        """
🔔=bell/铃铛 📢=loudspeaker/喇叭 📣=megaphone/扩音器 📯=postal_horn/邮号 🎼=treble_clef/高音谱号
🎵=musical_note/音符 🎚=level_slider/音量滑块 🎤=microphone/麦克风 🎧=headphones*/耳机 📻=radio/收音机
🎷=saxophone/萨克斯管 🪗=accordion/手风琴 🎸=guitar/吉他 🎹=piano_keyboard/钢琴键盘 🎺=trumpet/小号
🎻=violin/小提琴 🪕=banjo/班卓琴 🥁=drum/鼓 🪘=long_drum/长鼓 🪇=maracas*/沙槌 🪈=flute/长笛 🪉=harp/竖琴
🔊=speaker/扬声器
""",
    ),
    (
        "device",
        "台",
        """
📱=mobile_phone/手机 ☎=telephone/电话机 📞=telephone_receiver/电话听筒 📟=pager/寻呼机 📠=fax_machine/传真机
🔋=battery/电池 🔌=electric_plug/电源插头 💻=laptop/笔记本电脑 🖨=printer/打印机 ⌨=keyboard/键盘
🖱=computer_mouse/鼠标 🖲=trackball/轨迹球 💾=floppy_disk/软盘 💿=optical_disc/光盘 🧮=abacus/算盘
🎥=movie_camera/电影摄影机 🎞=film_strip/电影胶片 📽=film_projector/电影放映机 🎬=clapperboard/场记板
📺=television/电视机 📷=camera/照相机 📹=video_camera/摄像机 📼=videocassette/录像带 🔦=flashlight/手电筒
💡=light_bulb/灯泡 🕯=candle/蜡烛 📡=satellite_dish/卫星天线 🔬=microscope/显微镜 🔭=telescope/望远镜
""",
    ),
    (
        "paper",
        "个",
        """
🔍=magnifying_glass/放大镜 📕=closed_book/合上的书 📖=open_book/翻开的书 📚=stack_of_books/一摞书
📓=notebook/笔记本 📜=scroll/卷轴 📄=sheet_of_paper/纸张 📰=newspaper/报纸 🔖=bookmark/书签 🏷=label_tag/标签
💰=money_bag/钱袋 🪙=coin/硬币 💵=banknotes*/钞票 💸=flying_money*/带翅膀的钱 💳=credit_card/信用卡
🧾=receipt/收据 📈=rising_chart/上升的图表 📉=falling_chart/下降的图表 ✉=envelope/信封 💌=love_letter/情书
📥=inbox_tray/收件箱 📦=cardboard_box/纸箱 📫=mailbox/信箱 📮=postbox/邮筒 🗳=ballot_box/投票箱
💼=briefcase/公文包 📁=file_folder/文件夹 📅=calendar/日历 🗒=spiral_notepad/线圈记事本 📊=bar_chart/柱状图
📋=clipboard/剪贴板 🗃=card_file_box/卡片盒 🗄=file_cabinet/文件柜 🗑=wastebasket/废纸篓 📝=memo/备忘录
🪪=identity_card/身份证/张
""",
    ),
    (
        "tool",
        "把",
        """
🔒=padlock/挂锁 🔑=key/钥匙/把 🔨=hammer/锤子 🪓=axe/斧头 ⛏=pickaxe/镐 🛠=hammer_and_wrench*/锤子和扳手
🗡=dagger/匕首 ⚔=crossed_swords*/交叉的剑 💣=bomb/炸弹/颗 🔫=water_pistol/水枪 🪃=boomerang/回旋镖
🏹=bow_and_arrow/弓箭 🛡=shield/盾牌/面 🪚=saw/锯子 🔧=wrench/扳手 🪛=screwdriver/螺丝刀 🔩=nut_and_bolt/螺母螺栓/个
⚙=gear/齿轮/个 🗜=clamp/夹钳 ⚖=balance_scale/天平/架 🦯=cane/手杖/根 ⛓=chains*/锁链 🪝=hook/挂钩/个 🧰=toolbox/工具箱/个
🧲=magnet/磁铁/块 🪜=ladder/梯子/架 🪏=shovel/铲子 🧯=fire_extinguisher/灭火器/个 🛒=shopping_cart/购物车/辆
🛢=oil_drum/油桶/个
""",
    ),
    (
        "medical",
        "个",
        """
⚗=alembic/蒸馏器 🧪=test_tube/试管 🧫=petri_dish/培养皿 🧬=dna*/基因螺旋 💉=syringe/注射器 🩸=drop_of_blood/血滴
💊=pill/药丸 🩹=adhesive_bandage/创可贴 🩼=crutch/腋下拐杖 🩺=stethoscope/听诊器 🩻=x-ray_picture/透视片
""",
    ),
    (
        "household",
        "个",
        """
🚪=door/门 🛗=elevator/电梯 🪞=mirror/镜子 🪟=window/窗户 🛏=bed/床 🛋=sofa/沙发 🪑=chair/椅子 🚽=toilet/马桶
🪠=plunger/马桶搋子 🚿=shower_head/淋浴喷头 🛁=bathtub/浴缸 🪤=mouse_trap/捕鼠器 🪒=razor/剃须刀
🧴=lotion_bottle/乳液瓶 🧹=broom/扫帚 🧻=roll_of_paper/卷纸 🧼=soap*/肥皂 🧽=sponge/海绵 🚬=cigarette/香烟
⚰=coffin/棺材 🪦=headstone/墓碑 ⚱=funeral_urn/骨灰瓮 🧿=nazar_amulet/恶魔眼护身符 🪬=hamsa/法蒂玛之手
🗿=moai_statue/摩艾石像 🪧=placard/标语牌 💬=speech_balloon/对话气泡 💭=thought_balloon/思考气泡
💥=collision_burst/爆炸火花 💦=sweat_drops*/汗滴 💨=puff_of_smoke/烟团 🕳=hole/洞
""",
    ),
)

PLURALS: dict[str, str] = {
    "aircraft": "aircraft",
    "bison": "bison",
    "blowfish": "blowfish",
    "claus": "clauses",
    "deer": "deer",
    "fish": "fish",
    "fleur-de-lis": "fleurs-de-lis",
    "foot": "feet",
    "goose": "geese",
    "jellyfish": "jellyfish",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mango": "mangoes",
    "merperson": "merpeople",
    "moose": "moose",
    "mosquito": "mosquitoes",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "potato": "potatoes",
    "scarf": "scarves",
    "sheep": "sheep",
    "shrimp": "shrimp",
    "squid": "squid",
    "superhero": "superheroes",
    "tomato": "tomatoes",
    "tooth": "teeth",
    "tornado": "tornadoes",
    "volcano": "volcanoes",
    "wolf": "wolves",
    "woman": "women",
}
