r"""Classes and superclasses of known data sets, and neighbours that a person finds sensible."""

from megu.settings.errors import SettingsError

# Folders that are parts of the data, not classes: which images were trained on, and which are unseen.
TRAIN, UNSEEN = ("train", "training"), ("test", "testing", "val", "validation", "valid")


def _rows(text):
    return [line.split(": ") for line in text.strip().split("\n")]


# class: superclass: neighbours, written before any guide was asked; bag has none that is agreed, and is not scored
_FASHION = _rows("""
t-shirt: tops: shirt, pullover, dress
trouser: bottoms: dress, coat
pullover: tops: shirt, coat, t-shirt
dress: tops: coat, shirt, t-shirt
coat: tops: pullover, shirt, dress
sandal: footwear: sneaker, ankle boot
shirt: tops: t-shirt, pullover, coat, dress
sneaker: footwear: sandal, ankle boot
bag: bag
ankle boot: footwear: sneaker, sandal
""")
FASHION = {name: top for name, top, *_ in _FASHION}  # in the official order
SENSIBLE_NEIGHBOURS = {name: set(near[0].split(", ")) for name, _, *near in _FASHION if near}

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

# superclass: classes, whose official order is alphabetical; that of superclasses is this one
_CIFAR100 = """
aquatic mammals: beaver, dolphin, otter, seal, whale
fish: aquarium fish, flatfish, ray, shark, trout
flowers: orchid, poppy, rose, sunflower, tulip
food containers: bottle, bowl, can, cup, plate
fruit and vegetables: apple, mushroom, orange, pear, sweet pepper
household electrical devices: clock, keyboard, lamp, telephone, television
household furniture: bed, chair, couch, table, wardrobe
insects: bee, beetle, butterfly, caterpillar, cockroach
large carnivores: bear, leopard, lion, tiger, wolf
large man-made outdoor things: bridge, castle, house, road, skyscraper
large natural outdoor scenes: cloud, forest, mountain, plain, sea
large omnivores and herbivores: camel, cattle, chimpanzee, elephant, kangaroo
medium-sized mammals: fox, porcupine, possum, raccoon, skunk
non-insect invertebrates: crab, lobster, snail, spider, worm
people: baby, boy, girl, man, woman
reptiles: crocodile, dinosaur, lizard, snake, turtle
small mammals: hamster, mouse, rabbit, shrew, squirrel
trees: maple tree, oak tree, palm tree, pine tree, willow tree
vehicles 1: bicycle, bus, motorcycle, pickup truck, train
vehicles 2: lawn mower, rocket, streetcar, tank, tractor
"""
CIFAR100 = {coarse: tuple(names.split(", ")) for coarse, names in _rows(_CIFAR100)}


def known_names(data_name):
    r"""(Class names in official order, superclass of each) of a data set; empty where not known."""
    if data_name == "fashion-mini":
        return tuple(FASHION), tuple(FASHION.values())
    if data_name in ("cifar20", "cifar100"):
        return tuple(zip(*sorted((name, coarse) for coarse, names in CIFAR100.items() for name in names), strict=True))
    return CIFAR10 if data_name == "cifar10" else (), ()


def different(names, what):
    r"""Names as a tuple.  Raises: SettingsError where one is there twice."""
    names = tuple(names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"{what} has the class {twice[0]!r} twice: give every class a name of its own")
    return names
