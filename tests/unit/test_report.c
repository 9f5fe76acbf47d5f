/* SPDX-License-Identifier: MIT */
/* HTML out of Markdown: what each construct becomes, and that no text becomes markup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "html.h"
#include "report.h"

static void becomes(const char *markdown, const char *html) {
    report r = {0};
    report_markdown(&r, markdown);
    assert_false(r.body.oom);
    assert_string_equal(r.body.s, html);
    report_free(&r);
}

static size_t count(const char *s, const char *what) {
    size_t n = 0;
    for (s = strstr(s, what); s; s = strstr(s + 1, what)) n++;
    return n;
}

static void blocks(void **state) {
    (void)state;
    becomes("# One\n## Two\n", "<h1>One</h1>\n<h2>Two</h2>\n");
    becomes("a\nb\n\nc", "<p>a\nb</p>\n<p>c</p>\n");
    becomes("### deep\n#no\n", "<p>### deep</p>\n<p>#no</p>\n");
    becomes("use `a<b` and `c", "<p>use <code>a&lt;b</code> and `c</p>\n");
    becomes("a\n# b", "<p>a</p>\n<h1>b</h1>\n");
}

static void tables(void **state) {
    (void)state;
    becomes("| name | n |\n|------|--:|\n| a `x` |  1 |\n| <b>  |    |\n\nend\n",
            "<div class=\"wide\"><table>\n<thead><tr><th>name</th><th class=\"r\">n</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>a <code>x</code></td><td class=\"r\">1</td></tr>\n"
            "<tr><td>&lt;b&gt;</td><td class=\"r\"></td></tr>\n</tbody></table></div>\n<p>end</p>\n");
    becomes("| a |", "<div class=\"wide\"><table>\n<tbody>\n<tr><td>a</td></tr>\n</tbody></table></div>\n");
}

static void text_stays_text(void **state) {
    (void)state;
    buf b = {0};
    html_text(&b, "<a href=\"x\">'&\n\x01\xff", 17);
    assert_string_equal(b.s, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\n?\xEF\xBF\xBD");
    buf_free(&b);
    html_json(&b, "[\"</script><!--&\"]");
    assert_string_equal(b.s, "[\"\\u003c/script\\u003e\\u003c!--\\u0026\"]");
    buf_free(&b);
}

static void base64(void **state) {
    (void)state;
    static const char *const pair[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        buf b = {0};
        html_base64(&b, pair[i][0], strlen(pair[i][0]));
        assert_string_equal(b.s, pair[i][1]);
        assert_int_equal(b.n, strlen(b.s));
        buf_free(&b);
    }
    buf b = {0};
    html_base64(&b, "\xfb\xef\xbe\xff", 4);
    assert_string_equal(b.s, "++++/w==");
    buf_free(&b);
}

static void pages(void **state) {
    (void)state;
    report r = {0};
    buf page = {0};
    report_markdown(&r, "# t\n");
    report_svg(&r, "<svg><script>alert(1)</script></svg>", "a < \"b\"");
    report_png(&r, "\x89PNG", 4, "c `d`");
    report_page(&r, "a </title><script>", &page);
    assert_false(page.oom);
    assert_int_equal(count(page.s, "<script"), 0);
    assert_int_equal(count(page.s, "<svg"), 0);
    assert_int_equal(count(page.s, "</title>"), 1);
    assert_int_equal(count(page.s, "<h1>"), 1);
    assert_int_equal(count(page.s, "http:") + count(page.s, "https:") + count(page.s, "//"), 0); /* no network */
    assert_non_null(strstr(page.s, "default-src 'none'"));
    assert_non_null(strstr(page.s, "src=\"data:image/svg+xml;base64,PHN2Zz48"));
    assert_non_null(
        strstr(page.s, "src=\"data:image/png;base64,iVBORw==\" alt=\"c `d`\"><figcaption>c <code>d</code>"));
    assert_non_null(strstr(page.s, "alt=\"a &lt; &quot;b&quot;\""));
    buf_free(&page);
    report_free(&r);
    report_markdown(&r, "text\n");
    report_page(&r, "a & b", &page);
    assert_non_null(strstr(page.s, "<h1>a &amp; b</h1>\n<p>text</p>"));
    buf_free(&page);
    report_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks), cmocka_unit_test(tables),
                                       cmocka_unit_test(text_stays_text), cmocka_unit_test(base64),
                                       cmocka_unit_test(pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
