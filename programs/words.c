/* SPDX-License-Identifier: MIT */
/* See words.h.  No word stands in two lists. */
#include "words.h"

/* clang-format off */
static const char *const adjectives[] = {
    "able", "absent", "ample", "ancient", "angry", "anxious", "arctic", "ashen", "autumn", "awake", "awkward",
    "azure", "bare", "bashful", "basic", "bent", "big", "bitter", "black", "bland", "blank", "bleak", "blind",
    "blond", "blue", "blunt", "bold", "brave", "brief", "bright", "brisk", "broad", "broken", "bronze", "brown",
    "bubbly", "burly", "busy", "calm", "candid", "careful", "careless", "casual", "cautious", "cheap", "cheerful",
    "chilly", "chubby", "civil", "classic", "clean", "clear", "clever", "cloudy", "clumsy", "coarse", "cold",
    "common", "complex", "cool", "copper", "coral", "cosmic", "cozy", "crafty", "creamy", "crimson", "crisp",
    "crooked", "crowded", "crude", "cruel", "curious", "curly", "current", "curved", "damp", "daring", "dark", "dear",
    "decent", "deep", "dense", "diligent", "dim", "direct", "dirty", "distant", "dizzy", "double", "doubtful", "drab",
    "dry", "dual", "dull", "dusty", "eager", "early", "earnest", "eastern", "easy", "elder", "elegant", "empty",
    "endless", "equal", "even", "exact", "extra", "faint", "fair", "faithful", "false", "famous", "fancy", "fast",
    "fatal", "feeble", "fierce", "final", "fine", "firm", "fixed", "flat", "floral", "fluffy", "foggy", "foolish",
    "formal", "fragile", "frank", "free", "fresh", "friendly", "frosty", "frozen", "fruity", "full", "funny", "fuzzy",
    "gentle", "genuine", "giant", "gifted", "glad", "gloomy", "glossy", "golden", "good", "graceful", "grand",
    "grassy", "grave", "gray", "greasy", "great", "greedy", "green", "grim", "gritty", "guilty", "handy", "happy",
    "hard", "harmless", "harsh", "hasty", "healthy", "hearty", "heavy", "helpful", "hidden", "high", "hollow", "holy",
    "honest", "hopeful", "hot", "huge", "humble", "humid", "hungry", "icy", "ideal", "idle", "immense", "inner",
    "innocent", "ivory", "jagged", "jealous", "jolly", "joyful", "keen", "kind", "large", "late", "lavish", "lazy",
    "lean", "legal", "light", "likely", "limp", "little", "lively", "local", "lofty", "lonely", "long", "loose",
    "loud", "loyal", "lucky", "lunar", "mad", "major", "maroon", "mature", "meek", "mellow", "merry", "mighty",
    "mild", "minor", "misty", "mobile", "modern", "modest", "moist", "moody", "muddy", "murky", "mute", "narrow",
    "native", "near", "neat", "nervous", "new", "nimble", "noble", "noisy", "normal", "northern", "novel", "numb",
    "obvious", "odd", "old", "olive", "orange", "ornate", "outer", "oval", "pale", "patient", "perfect", "pink",
    "plain", "pleasant", "plump", "polite", "poor", "precise", "pretty", "prime", "private", "proud", "public",
    "pure", "purple", "quaint", "quick", "quiet", "rapid", "rare", "raw", "ready", "real", "recent", "regal",
    "remote", "rich", "rigid", "ripe", "robust", "rocky", "rosy", "rotten", "rough", "round", "royal", "rude",
    "rural", "rusty", "sacred", "sad", "safe", "salty", "sandy", "scarce", "scarlet", "secret", "serene", "severe",
    "shady", "shallow", "sharp", "shiny", "short", "shrewd", "shy", "silent", "silky", "silly", "silver", "simple",
    "sincere", "sleepy", "slender", "slim", "slippery", "slow", "small", "smart", "smoky", "smooth", "sober", "soft",
    "solar", "solemn", "solid", "sour", "southern", "spare", "sparse", "speedy", "spicy", "splendid", "spotless",
    "stale", "steady", "steep", "stern", "sticky", "stiff", "stout", "straight", "strange", "strict", "strong",
    "sturdy", "subtle", "sudden", "sunny", "superb", "sweet", "swift", "tall", "tame", "tart", "tender", "tense",
    "thick", "thin", "thirsty", "thorny", "tidy", "timid", "tiny", "tired", "torpid", "tough", "tranquil", "trim",
    "true", "turquoise", "ugly", "upper", "upright", "urban", "urgent", "usual", "vacant", "vague", "vain", "valid",
    "vast", "velvet", "vibrant", "violet", "vital", "vivid", "warm", "wary", "weak", "wealthy", "weary", "western",
    "wet", "white", "wide", "wild", "wise", "witty", "wooden", "woolen", "yellow", "young", "zealous"};

static const char *const nouns[] = {
    "acorn", "actor", "airport", "album", "alley", "almond", "anchor", "angle", "animal", "ankle", "answer", "antler",
    "apple", "apron", "arch", "archer", "arena", "armor", "arrow", "artist", "attic", "aunt", "author", "avenue",
    "badge", "badger", "bag", "baker", "balcony", "ball", "balloon", "bamboo", "banana", "band", "bank", "banner",
    "barge", "bark", "barley", "barn", "barrel", "basin", "basket", "bat", "bath", "battery", "beach", "bead", "beam",
    "bean", "bear", "beard", "beaver", "bed", "bee", "beetle", "bell", "belt", "bench", "berry", "bicycle", "bird",
    "biscuit", "blanket", "blossom", "board", "boat", "body", "bolt", "bone", "bonnet", "book", "boot", "border",
    "bottle", "boulder", "bow", "bowl", "box", "bracelet", "branch", "brass", "bread", "breeze", "brick", "bridge",
    "broom", "brother", "brush", "bucket", "buckle", "building", "bunny", "bus", "bush", "butter", "button",
    "cabbage", "cabin", "cable", "cactus", "cafe", "cage", "cake", "calendar", "camel", "camera", "camp", "canal",
    "candle", "candy", "canoe", "canvas", "canyon", "cape", "captain", "caravan", "card", "cargo", "carpet",
    "carriage", "carrot", "cart", "cashew", "castle", "cat", "cave", "cedar", "ceiling", "cellar", "cello", "chain",
    "chair", "chalk", "channel", "chapel", "cheese", "cherry", "chess", "chest", "chestnut", "chicken", "chimney",
    "church", "cinema", "circle", "circus", "city", "clay", "cliff", "clock", "cloth", "cloud", "clover", "coach",
    "coast", "coat", "cobbler", "coffee", "coin", "collar", "colony", "comb", "comet", "compass", "corn", "corner",
    "cottage", "cotton", "couch", "cousin", "cow", "crab", "cradle", "crane", "crate", "crayon", "creek", "cricket",
    "crown", "crystal", "cup", "cupboard", "curtain", "cushion", "customer", "cygnet", "daisy", "dance", "daughter",
    "dawn", "deck", "deer", "desert", "desk", "diamond", "dinner", "dish", "ditch", "doctor", "dog", "doll",
    "dolphin", "donkey", "door", "dove", "dragon", "drawer", "dress", "drum", "duck", "dune", "eagle", "ear", "earth",
    "easel", "echo", "eel", "egg", "elbow", "elephant", "elm", "engine", "envelope", "evening", "eye", "fabric",
    "face", "factory", "falcon", "farm", "farmer", "feather", "fence", "fern", "ferry", "fiddle", "field", "fig",
    "finger", "fire", "fish", "flag", "flame", "flask", "fleet", "flock", "floor", "flour", "flower", "flute", "fog",
    "folder", "forest", "fork", "fort", "fountain", "fox", "frame", "friend", "frog", "fruit", "funnel", "fur",
    "galaxy", "garage", "garden", "garlic", "gate", "gazelle", "geyser", "giraffe", "girl", "glacier", "glass",
    "globe", "glove", "goat", "goose", "gorge", "grain", "grape", "grass", "gravel", "grove", "guest", "guitar",
    "gull", "hail", "hall", "hammer", "hammock", "hand", "harbor", "hare", "harp", "harvest", "hat", "hawk", "hazel",
    "heart", "hedge", "helmet", "hen", "heron", "hill", "hinge", "hive", "honey", "hood", "hoof", "hook", "horizon",
    "horn", "horse", "hospital", "hotel", "house", "hut", "ice", "inch", "ink", "inn", "insect", "iron", "island",
    "ivy", "jacket", "jaguar", "jam", "jar", "jelly", "jewel", "judge", "jug", "juice", "jungle", "kangaroo",
    "keeper", "kettle", "key", "kid", "king", "kitchen", "kite", "kitten", "knee", "knife", "knight", "knot", "koala",
    "ladder", "lady", "lagoon", "lake", "lamb", "lamp", "land", "lane", "lantern", "lark", "latch", "lawn", "lawyer",
    "leaf", "leather", "lemon", "lens", "leopard", "letter", "lettuce", "library", "lid", "lily", "lime", "linen",
    "lion", "lizard", "loaf", "lobby", "lobster", "lock", "locket", "log", "loom", "lotus", "lumber", "lunch", "lynx",
    "magnet", "maple", "marble", "market", "marsh", "mask", "mast", "mat", "meadow", "meal", "medal", "melon",
    "mermaid", "meteor", "mill", "miner", "mirror", "mitten", "moat", "mole", "monk", "moon", "moose", "morning",
    "mosaic", "moss", "moth", "mother", "motor", "mountain", "mouse", "mouth", "mule", "museum", "mushroom", "music",
    "mustard", "nail", "napkin", "neck", "necklace", "needle", "neighbor", "nest", "net", "nettle", "newt", "niece",
    "night", "nose", "notebook", "nut", "nutmeg", "oak", "oar", "oasis", "oats", "ocean", "office", "oil", "onion",
    "opal", "opera", "orbit", "orchard", "orchid", "organ", "osprey", "otter", "oven", "owl", "oyster", "paddle",
    "page", "pail", "painter", "palace", "palm", "pan", "panda", "panel", "panther", "paper", "parade", "parcel",
    "parrot", "parsley", "pasture", "path", "patio", "peach", "peacock", "peak", "pear", "pearl", "pebble", "pelican",
    "pen", "pencil", "pepper", "petal", "piano", "picture", "pie", "pigeon", "pillar", "pillow", "pilot", "pine",
    "pipe", "pirate", "pitcher", "plane", "planet", "plank", "plate", "platter", "plaza", "plum", "pocket", "poem",
    "poet", "pond", "pony", "poplar", "poppy", "porch", "port", "portrait", "poster", "potato", "potter", "pottery",
    "prairie", "prince", "prism", "puddle", "pumpkin", "puppet", "puppy", "puzzle", "quail", "quarry", "quartz",
    "queen", "quill", "quilt", "rabbit", "raccoon", "radio", "radish", "raft", "rail", "rain", "rainbow", "ranch",
    "raven", "razor", "reed", "reef", "ribbon", "rice", "ridge", "ring", "river", "road", "robe", "robin", "robot",
    "rock", "rocket", "roof", "room", "rooster", "root", "rope", "rose", "ruby", "ruler", "saddle", "sail", "sailor",
    "salad", "salmon", "salt", "sand", "sandal", "satchel", "saucer", "saw", "scale", "scarf", "school", "scissors",
    "sculptor", "sea", "seal", "season", "seed", "shadow", "sheep", "shelf", "shell", "shepherd", "shield", "ship",
    "shirt", "shoe", "shop", "shore", "shovel", "shrimp", "sign", "singer", "sister", "skirt", "sky", "slate", "sled",
    "sleeve", "slipper", "snail", "snake", "snow", "soap", "sock", "sofa", "soldier", "son", "song", "soup",
    "sparrow", "spear", "spider", "spinach", "spindle", "sponge", "spoon", "squirrel", "stable", "stage", "stairs",
    "stamp", "star", "statue", "stone", "stool", "storm", "stove", "stranger", "straw", "stream", "street", "student",
    "sugar", "suitcase", "summer", "sun", "swallow", "swan", "sweater", "table", "tailor", "tavern", "teacher",
    "teapot", "temple", "tent", "theater", "thimble", "thistle", "throat", "thumb", "thunder", "ticket", "tiger",
    "tile", "timber", "toad", "toast", "tomato", "tongue", "tooth", "torch", "tortoise", "towel", "tower", "town",
    "toy", "tractor", "trail", "train", "tray", "treasure", "tree", "trophy", "trout", "trumpet", "trunk", "tulip",
    "tunnel", "turkey", "turnip", "turtle", "twig", "umbrella", "uncle", "valley", "vase", "vault", "veil", "vest",
    "village", "vine", "vinegar", "violin", "voice", "volcano", "wagon", "waiter", "wall", "walnut", "walrus",
    "wardrobe", "water", "waterfall", "wax", "weasel", "weaver", "whale", "wheat", "wheel", "whisker", "whistle",
    "widow", "willow", "wind", "window", "winter", "witch", "wolf", "woman", "wood", "wool", "worm", "wren", "wrist",
    "yard", "yarn", "zebra", "zipper"};

static const char *const verbs[] = {
    "accept", "achieve", "admire", "adopt", "advise", "allow", "announce", "appear", "apply", "argue", "arrange",
    "arrive", "attach", "avoid", "bake", "balance", "become", "begin", "behave", "believe", "belong", "borrow",
    "bounce", "breathe", "bring", "build", "burn", "bury", "calculate", "carry", "catch", "celebrate", "change",
    "chase", "choose", "climb", "collect", "combine", "compare", "complain", "compose", "confess", "connect",
    "consider", "construct", "contain", "continue", "cook", "copy", "cough", "count", "cover", "create", "cross",
    "crush", "dare", "decide", "decorate", "defend", "deliver", "demand", "depend", "describe", "deserve", "destroy",
    "develop", "discover", "discuss", "disturb", "divide", "doubt", "drag", "draw", "dream", "drift", "drink",
    "drive", "earn", "eat", "encourage", "enjoy", "enter", "escape", "examine", "excuse", "exist", "expand", "expect",
    "explain", "explore", "extend", "fail", "fall", "feed", "feel", "fetch", "fight", "fill", "find", "float", "fly",
    "fold", "follow", "forget", "forgive", "gather", "give", "glow", "grab", "grow", "guard", "guess", "guide",
    "handle", "happen", "harm", "heal", "hear", "help", "hesitate", "hide", "hold", "hope", "hunt", "imagine",
    "improve", "include", "increase", "inform", "inspect", "invent", "invite", "join", "jump", "keep", "kneel",
    "knit", "know", "laugh", "launch", "lead", "learn", "leave", "lend", "lift", "listen", "load", "lose", "love",
    "manage", "march", "measure", "melt", "mention", "mix", "multiply", "murmur", "notice", "obey", "observe",
    "obtain", "offer", "open", "order", "owe", "pack", "paint", "pause", "perform", "permit", "persuade", "plant",
    "play", "point", "polish", "pour", "practice", "praise", "prefer", "prepare", "present", "preserve", "pretend",
    "prevent", "produce", "promise", "protect", "provide", "pull", "punish", "push", "reach", "read", "realize",
    "receive", "recognize", "recover", "refuse", "regret", "rejoice", "relax", "remember", "remind", "remove",
    "repair", "repeat", "replace", "reply", "request", "rescue", "retire", "return", "reveal", "ride", "rise", "roar",
    "rub", "run", "save", "scatter", "scratch", "search", "sell", "send", "separate", "serve", "settle", "shake",
    "share", "shiver", "shout", "shrink", "sigh", "sing", "skip", "sleep", "slide", "smell", "smile", "sneeze",
    "solve", "speak", "spend", "spill", "spread", "squeeze", "stand", "stay", "steal", "stir", "stretch", "strike",
    "study", "succeed", "suffer", "suggest", "supply", "support", "suppose", "surprise", "surround", "suspect",
    "sway", "swim", "swing", "take", "talk", "taste", "teach", "tell", "thank", "think", "threaten", "throw",
    "tickle", "touch", "trade", "translate", "travel", "treat", "tremble", "trust", "try", "twist", "understand",
    "unite", "unlock", "vanish", "visit", "wait", "wake", "walk", "wander", "want", "warn", "wash", "waste", "weave",
    "weigh", "welcome", "whisper", "win", "wipe", "wonder", "work", "worry", "wrap", "wrestle", "write", "yawn",
    "yell"};
/* clang-format on */

#define LIST(a)                                                                                                        \
    { a, sizeof(a) / sizeof *(a) }
const word_list words_adjective = LIST(adjectives);
const word_list words_noun = LIST(nouns);
const word_list words_verb = LIST(verbs);

const char *words_any(size_t i) {
    const word_list *const all[] = {&words_adjective, &words_noun, &words_verb};
    for (size_t k = 0; k < 3; i -= all[k++]->n)
        if (i < all[k]->n) return all[k]->w[i];
    return NULL;
}

size_t words_any_n(void) {
    return words_adjective.n + words_noun.n + words_verb.n;
}
