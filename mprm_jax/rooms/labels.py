"""Raw category names of the rooms and the NYU40 classes that ScanNet's label table gives them."""

NYU40_NAMES = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door",
    9: "window", 10: "bookshelf", 11: "picture", 12: "counter", 13: "blinds", 14: "desk",
    15: "shelves", 16: "curtain", 17: "dresser", 18: "pillow", 19: "mirror", 20: "floor mat",
    21: "clothes", 22: "ceiling", 23: "books", 24: "refridgerator", 25: "television",
    27: "towel", 28: "shower curtain", 29: "box", 30: "whiteboard", 32: "night stand",
    33: "toilet", 34: "sink", 35: "lamp", 36: "bathtub", 37: "bag", 38: "otherstructure",
    39: "otherfurniture", 40: "otherprop",
}  # fmt: skip

_CATEGORIES = {
    1: ("wall", "closet wall", "shower wall"),
    2: ("floor",),
    3: ("cabinet", "kitchen cabinet", "file cabinet", "bathroom vanity", "bathroom cabinet"),
    4: ("bed", "mattress"),
    5: ("chair", "office chair", "armchair", "sofa chair"),
    6: ("couch",),
    7: ("table", "coffee table", "end table", "dining table", "round table"),
    8: ("door", "doorframe", "closet door"),
    9: ("window",),
    10: ("bookshelf",),
    11: ("picture", "poster", "painting"),
    12: ("counter", "kitchen counter", "bathroom counter"),
    13: ("blinds",),
    14: ("desk",),
    15: ("shelf",),
    16: ("curtain",),
    17: ("dresser",),
    18: ("pillow",),
    19: ("mirror",),
    20: ("mat",),
    21: ("clothes",),
    22: ("ceiling",),
    23: ("books",),
    24: ("refrigerator", "mini fridge"),
    25: ("tv",),
    27: ("towel",),
    28: ("shower curtain",),
    29: ("box",),
    30: ("whiteboard",),
    32: ("nightstand",),
    33: ("toilet",),
    34: ("sink",),
    35: ("lamp",),
    36: ("bathtub",),
    37: ("bag",),
    38: ("stove", "windowsill", "range hood"),
    39: ("trash can", "recycling bin", "radiator", "ottoman", "tv stand", "wardrobe closet",
         "bench", "piano", "washing machine", "rack", "water cooler"),
    40: ("object", "monitor", "keyboard", "computer tower", "backpack", "plant", "stool",
         "suitcase", "microwave", "blanket", "toilet paper", "laundry hamper", "rug",
         "shower curtain rod"),
}  # fmt: skip

NYU40_ID = {name: nyu40 for nyu40, names in _CATEGORIES.items() for name in names}

TABLE_COLUMNS = (
    "id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class",
    "eigen13class", "ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid",
    "wnsynsetkey", "mpcat40", "mpcat40index",
)  # fmt: skip


def table_rows() -> list[list[str]]:
    """Returns the label table, one row per raw category; columns we have no use for are empty."""
    rows = []
    for i, (name, nyu40) in enumerate(NYU40_ID.items()):
        row = dict.fromkeys(TABLE_COLUMNS, "")
        row.update(id=str(i + 1), raw_category=name, category=name, count="0", nyu40id=str(nyu40))
        row.update(nyuClass=NYU40_NAMES[nyu40], nyu40class=NYU40_NAMES[nyu40])
        rows.append(list(row.values()))
    return rows
