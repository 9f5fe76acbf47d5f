/* SPDX-License-Identifier: MIT */
/* See prose.h. */
#include "prose.h"

#include "words.h"

/* clang-format off */
static const char *const sentences[] = {
    "The @a @n stood beside the @n until the light was gone.",
    "Nobody in the village could say who had left the @a @n by the gate.",
    "After the rain the @n smelled of @n and of @a earth.",
    "She kept a @a @n on the windowsill, next to a picture of a @n.",
    "When the bell rang, every @n in the square turned towards the @n.",
    "He had learned early that a @a @n is worth more than a @a @n.",
    "They walked along the river and talked about the @n they used to own.",
    "It was the kind of morning on which a @n seems @a and a @n seems far away.",
    "The letter described a @a @n, two @a chairs, and nothing else of interest.",
    "In winter the @n was closed, and only a @a @n was left outside.",
    "My grandmother believed that a @n should never be given to a @a guest.",
    "The map showed a @n where the others remembered only a @a @n.",
    "Late in the evening someone began to @v on the stairs.",
    "You could hear the @n from the far side of the @n, @a and regular.",
    "Some people @v before breakfast; others would rather look for a @n.",
    "The committee agreed to paint the @n in a @a color and to leave it at that.",
    "A @a wind came down from the hills and moved the @n about.",
    "There were years when nobody asked for a @n at all.",
    "The boy wanted to @v, but the @n in his hand was too @a.",
    "Between the @n and the wall there was just enough room for a @a @n.",
    "She read the chapter about the @n twice and still thought of the @n.",
    "On market days the street was full of @a voices and the sound of a @n.",
    "The captain never mentioned the @n again, not even to the @n.",
    "If you @v slowly, the old @n hardly makes a sound.",
    "What remained of the @n was carried to the @a house on the corner.",
    "The museum owned one @a @n, which it showed only on Sundays.",
    "He put the @n down, looked at the @a sky, and went on.",
    "Few things are as @a as a @n that has been left in the sun.",
    "The children had drawn a @n with three legs and a @a hat.",
    "At noon the @n was so quiet that one could hear a @n breathe.",
    "It took them a whole week to @v, and another to find the @n.",
    "The road went past a @n, a @a orchard, and a row of empty houses.",
    "I have always preferred the @a @n to the one in the hall.",
    "Her brother collected every @n he could find, the more @a the better.",
    "From the roof you saw the harbor, the @n, and behind it the @a fields.",
    "The innkeeper offered them a @n and a place beside the fire.",
    "To @v is easy enough, the old woman said, but to stop takes practice.",
    "The @n arrived in a @a box that nobody dared to open.",
    "By the end of the summer the grass had grown over the @n.",
    "No one was surprised that the @a @n had been sold.",
    "The musician tuned his instrument while a @n crossed the stage.",
    "Under the bridge lived a @a @n and, some said, a @n as well.",
    "We waited for the @n, then for the @n, and in the end for the morning.",
    "The shop sold @a bread, candles, and now and then a @n.",
    "A traveler told them about a country where people @v on their birthdays.",
    "The clock in the hall was @a, and the @n below it was older still.",
    "She laughed, because the @n looked like a @a version of her uncle.",
    "Every spring the students tried to @v without being seen.",
    "It is said that the @n was built around a @a tree.",
    "The door of the @n opened, and the smell of coffee came out.",
    "He promised to @v as soon as the @n was repaired.",
    "Far below, the @a lights of the town began to go out.",
    "The gardener had an opinion on every @n, and most of them were @a.",
    "A dog slept in front of the @n and did not care about the @a weather.",
    "They named the boat after a @n, for reasons that are now forgotten.",
    "The teacher drew a @n on the board and asked what was @a about it.",
    "There is a path behind the @n, but it is @a and seldom used.",
    "With a @a smile she handed the @n back across the counter.",
    "The older sister could @v, whistle, and balance a @n on her hand.",
    "Once a year the @n is washed, dried, and put back in its @a place.",
    "The story ends with a @n, as such stories do.",
    "In the drawer lay a @a @n wrapped in an old newspaper.",
    "The fishermen said that the sea had been @a since the @n was moved.",
    "Whoever wants to @v must first learn to wait.",
    "The house at the end of the lane had a @a roof and no @n.",
    "For a moment the @n seemed to hang in the air, @a and still.",
};

static const char *const snippets[] = {
    "/* Moves the @1 to the next @2. */\nstatic int move_@1(struct @2 *p, size_t n) {\n    for (size_t i = 0; i < n; i++)\n"
    "        if (p->@1[i] == @3_of(p)) return 0;\n    return @1_failed(p);\n}\n",
    "def @v_@1(@2, limit=None):\n    \"\"\"Return every @1 of a @a @2.\"\"\"\n    found = []\n    for item in @2.items():\n"
    "        if item.@3 and item not in found:\n            found.append(item)\n    return found[:limit]\n",
    "struct @1 {\n    struct @2 *first, *last;\n    size_t n_@3;\n    bool is_@a;\n};\n\nstruct @1 *new_@1(size_t n_@3) {\n"
    "    struct @1 *x = calloc(1, sizeof *x);\n    if (x) x->n_@3 = n_@3;\n    return x;\n}\n",
    "class @1_reader:\n    def __init__(self, @2, @3=None):\n        self.@2 = @2\n        self.@3 = @3 or []\n\n"
    "    def @v(self):\n        return [x for x in self.@3 if x.is_@a(self.@2)]\n",
    "while (@1_next(&it)) {\n    if (!it.@2) continue; /* a @a one */\n    total += it.@2->weight;\n"
    "    if (total > limit) break;\n    @v_@3(it.@2);\n}\n",
    "bool @1_has_@2(const struct @1 *a, const char *name) {\n    const struct @2 *p = a->@2;\n"
    "    while (p && strcmp(p->name, name)) p = p->next;\n    return p != NULL; /* @a or not */\n}\n",
    "def test_@1_is_@a():\n    @2 = make_@2()\n    assert @2.@v(@1) is None\n    @2.close()\n    assert not @2.has_@3\n",
    "static void free_@1(struct @1 *p) {\n    if (!p) return;\n    free_@2(p->@2);\n    free(p->@3);\n    free(p);\n}\n",
    "try:\n    @1 = open_@2(path)\nexcept OSError as error:\n    log.warning(\"no @a @2 there: %s\", error)\n    @1 = None\n",
    "switch (@1->kind) {\ncase KIND_@2:\n    return @v_@2(@1);\ncase KIND_@3:\n    return @v_@3(@1, true);\ndefault:\n"
    "    return -1; /* not a @a kind */\n}\n",
    "@1 = sorted(@2, key=lambda x: (x.@3, x.name))\nfor left, right in zip(@1, @1[1:]):\n    if left.@3 == right.@3:\n"
    "        @v(left, right)\n",
    "size_t count_@1(const char *s, char @2) {\n    size_t n = 0;\n    for (; *s; s++) n += *s == @2;\n    return n;\n}\n",
};
/* clang-format on */

static const char *draw(rng *r, const word_list *l) {
    return l->w[rng_below(r, l->n)];
}

void prose_fill(rng *r, const char *pattern, buf *out) {
    const char *once[3];
    for (int i = 0; i < 3; i++) once[i] = draw(r, &words_noun);
    for (const char *p = pattern; *p; p++) {
        if (*p != '@') {
            buf_add(out, p, 1);
            continue;
        }
        const char *w = *++p == 'a' ? draw(r, &words_adjective)
                        : *p == 'n' ? draw(r, &words_noun)
                        : *p == 'v' ? draw(r, &words_verb)
                                    : once[*p - '1'];
        /* "a old house": the article before follows the word */
        bool vowel = *w == 'a' || *w == 'e' || *w == 'i' || *w == 'o';
        if (vowel && out->n >= 2 && !out->oom && out->s[out->n - 1] == ' ' &&
            (out->s[out->n - 2] == 'a' || out->s[out->n - 2] == 'A') &&
            (out->n == 2 || out->s[out->n - 3] == ' ' || out->s[out->n - 3] == '\n')) {
            out->n--;
            buf_str(out, "n ");
        }
        buf_str(out, w);
    }
}

void prose_sentence(rng *r, buf *out) {
    prose_fill(r, sentences[rng_below(r, sizeof sentences / sizeof *sentences)], out);
}

void prose_paragraph(rng *r, buf *out) {
    for (uint64_t n = 3 + rng_below(r, 4); n > 0; n--) {
        prose_sentence(r, out);
        buf_str(out, n > 1 ? " " : "\n");
    }
}

void prose_code(rng *r, buf *out) {
    prose_fill(r, snippets[rng_below(r, sizeof snippets / sizeof *snippets)], out);
    buf_str(out, "\n");
}
