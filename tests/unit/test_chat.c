/* SPDX-License-Identifier: MIT */
/* Chat templates: each family's frame, what is taken from the template's literals, and what is refused.  The expected
 * texts are those Jinja gives for the same template. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "text/chat.h"

static crit_vocab *vocab_with(const char *tmpl, int add_bos) {
    static const crit_text token[] = {{"a", 1}, {"<s>", 3}, {"</s>", 4}};
    static const float score[3] = {0};
    crit_vocab_source s = crit_vocab_source_empty();
    s.model = (crit_text){"llama", 5};
    s.n_token = 3;
    s.token = token;
    s.score = score;
    s.bos = 1;
    s.eos = 2;
    s.add_bos = add_bos;
    s.chat_template = (crit_text){tmpl, strlen(tmpl)};
    crit_vocab *v;
    crit_error err;
    if (crit_vocab_open(&v, &s, &err)) fail_msg("%s", err.message);
    return v;
}

static const crit_message user[] = {{"user", " Hi "}};
static const crit_message talk[] = {{"system", "S"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}};

static void expect(const char *tmpl, const crit_message *m, size_t n_msg, bool reply, const char *want) {
    crit_vocab *v = vocab_with(tmpl, 0);
    char buf[1024];
    size_t n, full = strlen(want);
    crit_error err;
    if (crit_chat_write(v, m, n_msg, reply, buf, sizeof buf, &n, &err)) fail_msg("%s", err.message);
    assert_string_equal(buf, want);
    assert_int_equal(n, full);
    /* Sizing, and every capacity that is too small. */
    assert_int_equal(crit_chat_write(v, m, n_msg, reply, NULL, 0, &n, &err), CRIT_E_SPACE);
    assert_int_equal(n, full);
    for (size_t cap = 0; cap <= full + 1; cap++) {
        memset(buf, '#', sizeof buf);
        assert_int_equal(crit_chat_write(v, m, n_msg, reply, buf, cap, &n, NULL), cap > full ? CRIT_OK : CRIT_E_SPACE);
        assert_int_equal(buf[cap], '#');
    }
    crit_vocab_close(&v);
}
#define TALK talk, 4

static void chatml(void **state) {
    (void)state;
    static const char bare[] =
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    expect(bare, user, 1, true, "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
    expect(bare, TALK, false,
           "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"
           "<|im_end|>\n<|im_start|>user\nc<|im_end|>\n");
    /* SmolLM2: line ends as they are; Qwen2.5: escaped, behind a literal for the tools. */
    static const char smol[] = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
                               "'<|im_start|>system\nYou "
                               "are SmolLM<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role']}}{% endfor %}";
    expect(smol, user, 1, false, "<|im_start|>system\nYou are SmolLM<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n");
    static const char qwen[] =
        "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- 'You are Q.' }}{%- else %}{{- '<|im_start|>system\\n' + "
        "messages[0]['content'] + '<|im_end|>\\n' }}{{- '<|im_start|>system\\nIt\\'s \"Q\".<|im_end|>\\n' }}{%- endif "
        "%}";
    expect(qwen, user, 1, false, "<|im_start|>system\nIt's \"Q\".<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n");
    expect(qwen, talk, 2, false, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n");
}

/* Qwen3: replies before the last question without their thoughts, those behind it with. */
static void thoughts(void **state) {
    (void)state;
    static const char qwen3[] =
        "{%- set ns = namespace(last_query_index=messages|length - 1) %}{{- '<|im_start|>' + message.role }}"
        "{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}{{- '\\n<think>\\n' + reasoning }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>' }}{%- endif %}";
    static const crit_message m[] = {{"user", "q"},    {"assistant", "<think>\nhm\n</think>\n\nans"},
                                     {"user", "more"}, {"assistant", "<think>\nso\n</think>\n\nb"},
                                     {"user", "<tool_response>\n1\n</tool_response>"},
                                     {"assistant", "\nc"}};
#define Q3_OLD "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nans<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n"
    expect(qwen3, m, 3, true, Q3_OLD "<|im_start|>assistant\n");
    expect(qwen3, m, 4, false, Q3_OLD "<|im_start|>assistant\n<think>\nso\n</think>\n\nb<|im_end|>\n");
    expect(qwen3, m, 6, false,
           Q3_OLD "<|im_start|>assistant\n<think>\nso\n</think>\n\nb<|im_end|>\n"
                  "<|im_start|>user\n<tool_response>\n1\n</tool_response><|im_end|>\n"
                  "<|im_start|>assistant\n<think>\n\n</think>\n\nc<|im_end|>\n");
}

static void llama3(void **state) {
    (void)state;
    static const char old[] =
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
        "+ "
        "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}";
    expect(
        old, user, 1, true,
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    static const char dated[] =
        "{{- bos_token }}{%- set date_string = \"26 Jul 2024\" %}{{- "
        "\"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}"
        "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string + \"\\n\\n\" }}"
        "{{- message['content'] | trim }}";
    expect(dated, user, 1, false,
           "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
           "2024"
           "\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
}

static void inst(void **state) {
    (void)state;
    static const char llama2[] =
        "{% set content = '<<SYS>>\\n' + system_message %}{{ bos_token + '[INST] ' + content.strip() + "
        "' [/INST]' }}{{ ' '  + content.strip() + ' ' + eos_token }}";
    expect(llama2, user, 1, true, "<s>[INST] Hi [/INST]");
    expect(llama2, TALK, true, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]");
    /* A default system text, switched on and off. */
    static const char own_text[] =
        "{% elif true == true and not '<<SYS>>' in messages[0]['content'] %}{% set system_message = 'It\\'s me' %}"
        "{{ bos_token + '[INST] ' + content.strip() }}";
    expect(own_text, user, 1, true, "<s>[INST] <<SYS>>\nIt's me\n<</SYS>>\n\n Hi [/INST]");
    expect(own_text, talk, 2, true, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST]");
    expect("{% elif false == true and not '<<SYS>>' in x %}{% set system_message = 'Me' %}{{ bos_token + '[INST]' }}",
           user, 1, true, "<s>[INST]  Hi  [/INST]");
    expect("{{ bos_token }}{% for message in messages %}<<SYS>>{{ '[INST] ' + content.strip() }}", talk + 1, 3, true,
           "<s>[INST] a [/INST] b </s>[INST] c [/INST]");
    static const char mistral[] =
        "{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}";
    expect(mistral, TALK, true, "<s>[INST] S\n\na [/INST]b</s>[INST] c [/INST]");
    static const char v3[] =
        "{{- bos_token }}{%- if loop.last and system_message is defined %}{{- \"[INST] \" + system_message + "
        "\"[/INST]\" }}{{- \" \" + message[\"content\"]|trim + eos_token}}";
    expect(v3, TALK, true, "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]");
    static const char nemo[] =
        "{{- bos_token }}{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}{{- message[\"content\"] + eos_token}}";
    expect(nemo, user, 1, true, "<s>[INST] Hi [/INST]");
}

static void zephyr(void **state) {
    (void)state;
    static const char t[] = "{% for message in messages %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% if "
                            "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}{% endfor %}";
    expect(t, TALK, true, "<|system|>\nS</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</s>\n<|assistant|>\n");
}

static void bos_by_vocabulary(void **state) {
    (void)state;
    crit_vocab *v = vocab_with("{{ '<|user|>' + eos_token }}{{ '<|assistant|>' }}", 1);
    char buf[100];
    size_t n;
    assert_int_equal(crit_chat_write(v, user, 1, false, buf, sizeof buf, &n, NULL), CRIT_OK);
    assert_string_equal(buf, "<s><|user|>\n Hi </s>\n");
    crit_vocab_close(&v);
}

static crit_status status_of(const char *tmpl, const crit_message *m, size_t n_msg, crit_error *err) {
    crit_vocab *v = vocab_with(tmpl, 0);
    char buf[256];
    size_t n;
    crit_status st = crit_chat_write(v, m, n_msg, true, buf, sizeof buf, &n, err);
    crit_vocab_close(&v);
    return st;
}

static void refused(void **state) {
    (void)state;
    crit_error err;
    assert_int_equal(status_of("", user, 1, &err), CRIT_E_CHAT);
    assert_int_equal(status_of("{{ '<start_of_turn>' }}", user, 1, &err), CRIT_E_CHAT);
    assert_non_null(strstr(err.message, "<start_of_turn>"));
    assert_int_equal(status_of("<|im_start|>user<|im_sep|>", user, 1, &err), CRIT_E_CHAT);
    assert_int_equal(status_of("<|im_start|>assistant\n<think>", user, 1, &err), CRIT_E_CHAT);
    assert_int_equal(status_of("<|user|><|assistant|><|end|>eos_token", user, 1, &err), CRIT_E_CHAT);
    /* Relatives that look alike: EOS behind the model's own messages only (Tulu), a bare system text (Yi-1.5). */
    assert_int_equal(status_of("{{ '<|user|>\n' + message['content'] + '\n' }}{{ '<|assistant|>\n' + message['content'] + "
                               "eos_token + '\n' }}",
                               user, 1, &err),
                     CRIT_E_CHAT);
    assert_int_equal(status_of("{% if system_message is defined %}{{ system_message }}{% endif %}{{ '<|im_start|>user' }}",
                               user, 1, &err),
                     CRIT_E_CHAT);
    assert_int_equal(status_of("<|im_start|>", user, 0, &err), CRIT_E_ARG);
    assert_int_equal(status_of("<|im_start|>", (crit_message[]){{"tool", "x"}}, 1, &err), CRIT_E_ARG);
    assert_int_equal(status_of("<|im_start|>", (crit_message[]){{"user", NULL}}, 1, &err), CRIT_E_ARG);
    assert_int_equal(status_of("[INST]<<SYS>>", talk, 1, &err), CRIT_E_ARG);
    assert_int_equal(status_of("[INST]", (crit_message[]){{"user", "x"}, {"system", "y"}}, 2, &err), CRIT_E_ARG);
    /* Literals that never end. */
    static const char *const odd[] = {
        "{{ '<|im_start|>system\\",       "{{ '<|im_start|>system", "<|im_start|>{#", "<|im_start|>{{",
        "<|im_start|>system_message = '", "[INST] [/INST",          "{{ '[INST]"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) assert_int_equal(status_of(odd[i], user, 1, &err), CRIT_OK);
}

static void names(void **state) {
    (void)state;
    assert_string_equal(crit_chat_family_name(CRIT_CHAT_CHATML), "chatml");
    assert_string_equal(crit_chat_family_name(CRIT_CHAT_ZEPHYR), "zephyr");
    assert_string_equal(crit_chat_family_name(CRIT_CHAT_NONE), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(chatml),
                                       cmocka_unit_test(thoughts),
                                       cmocka_unit_test(llama3),
                                       cmocka_unit_test(inst),
                                       cmocka_unit_test(zephyr),
                                       cmocka_unit_test(bos_by_vocabulary),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
