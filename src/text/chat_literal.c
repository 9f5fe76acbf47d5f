/* SPDX-License-Identifier: MIT */
/* Just enough of Jinja's lexical rules to find the string literals of a chat template. */
#include <string.h>

#include "text/chat.h"

bool crit_text_has(crit_text t, const char *s) {
    return !*s || (t.len && memmem(t.ptr, t.len, s, strlen(s)) != NULL);
}

static bool at_mark(crit_text t, size_t i, const char *mark) {
    return t.len - i >= 2 && t.ptr[i] == mark[0] && t.ptr[i + 1] == mark[1];
}

/* End of the quoted string that opens at i: place of its closing quote, t.len when it has none. */
static size_t closing(crit_text t, size_t i) {
    char quote = t.ptr[i++];
    while (i < t.len && t.ptr[i] != quote) i += t.ptr[i] == '\\' && i + 1 < t.len ? 2 : 1;
    return i < t.len ? i : t.len;
}

bool crit_chat_literal(crit_text t, crit_chat_cursor *c, crit_text *lit, bool *quoted) {
    size_t i = c->at;
    bool inside = c->in_tag;
    while (i < t.len) {
        if (inside) {
            if (t.ptr[i] == '\'' || t.ptr[i] == '"') {
                size_t end = closing(t, i);
                *lit = (crit_text){t.ptr + i + 1, end > i ? end - i - 1 : 0};
                *quoted = true;
                *c = (crit_chat_cursor){end < t.len ? end + 1 : t.len, true};
                return true;
            }
            bool ends = at_mark(t, i, "}}") || at_mark(t, i, "%}");
            inside = !ends;
            i += ends ? 2 : 1;
            continue;
        }
        if (at_mark(t, i, "{#")) {
            const char *end = memmem(t.ptr + i, t.len - i, "#}", 2);
            i = end ? (size_t)(end - t.ptr) + 2 : t.len;
            continue;
        }
        if (at_mark(t, i, "{{") || at_mark(t, i, "{%")) {
            inside = true;
            i += 2;
            continue;
        }
        size_t from = i;
        while (i < t.len && !at_mark(t, i, "{{") && !at_mark(t, i, "{%") && !at_mark(t, i, "{#")) i++;
        *lit = (crit_text){t.ptr + from, i - from};
        *quoted = false;
        *c = (crit_chat_cursor){i, false};
        return true;
    }
    c->at = t.len;
    return false;
}

crit_text crit_chat_assigned(crit_text t, const char *name) {
    size_t len = strlen(name);
    for (size_t i = 0; i + len < t.len; i++) {
        if (memcmp(t.ptr + i, name, len) != 0) continue;
        size_t k = i + len;
        while (k < t.len && t.ptr[k] == ' ') k++;
        if (k >= t.len || t.ptr[k] != '=') continue;
        do k++;
        while (k < t.len && t.ptr[k] == ' ');
        if (k >= t.len || (t.ptr[k] != '\'' && t.ptr[k] != '"')) continue;
        size_t end = closing(t, k);
        if (end > k + 1 && end < t.len) return (crit_text){t.ptr + k + 1, end - k - 1};
    }
    return (crit_text){"", 0};
}
