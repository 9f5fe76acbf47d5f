# SPDX-License-Identifier: MIT
# A fixed text read once: cluster writes a snapshot, run --prefix goes on from it as if it had read the text itself.
text 3600 >doc.txt
c() { run cluster -m "$M" "$@"; }
r() { run run -m "$M" --no-progress "$@"; }
o='--decode squeezed:min=256'
# shellcheck disable=SC2086
{
c -f doc.txt -o doc.cpkv $o; want_rc 0; want_no_out; want_err 'doc.cpkv: [0-9]+ tokens read in .* MB written'
[ -f doc.cpkv ] && ! compgen -G 'doc.cpkv.*' >/dev/null || bad "the snapshot, and nothing else, is there"
c -f doc.txt -o zip.cpkv $o --zstd 3 --json; want_rc 0; want_no_err
want_json 'set(j) == set("file n policy file_bytes load_ms read_ms read_per_second save_ms model cpu threads".split())'
want_json 'j["policy"] == "squeezed" and j["n"] > 1200 and j["file_bytes"] == __import__("os").path.getsize("zip.cpkv")'
[ "$(stat -c %s zip.cpkv)" -lt "$(stat -c %s doc.cpkv)" ] || bad "--zstd did not make it smaller"
# The same answer as from the text, with full attention to the letter.
r -f doc.txt -p 'Why so?' -n 12 --json; want_rc 0; cp out whole
r --prefix doc.cpkv -p 'Why so?' -n 12 --json; want_rc 0; want_no_err
want_json 'j["tokens"] == json.load(open("whole"))["tokens"]'
want_json 'set(j["prefix"]) == {"file", "n", "load_ms", "policy"} and j["prefix"]["policy"] == "squeezed" and 0 < j["prompt_n"] < 30'
want_json 'j["prefix"]["n"] + j["prompt_n"] == json.load(open("whole"))["prompt_n"]'
r --prefix zip.cpkv -p 'Why so?' -n 12 --json; want_rc 0; want_json 'j["tokens"] == json.load(open("whole"))["tokens"]'
# Through clusters: less is read, and the first token needs no prompt at all.
r --prefix doc.cpkv -p 'Why so?' -n 12 --json --decode squeezed; want_rc 0
want_json '0 < j["decode_stats"]["moved_of_full"] < .8 and j["decode"] == "squeezed" and j["attn"]["density"] < .9'
r --prefix doc.cpkv -n 4 --decode squeezed:levels=1 --json; want_rc 0; want_json 'j["prompt_n"] == 0 and j["predicted_n"] > 0'
r --prefix doc.cpkv -n 4 --json; want_rc 0; want_json 'j["prompt_n"] == 0 and j["kv_bytes"] > 0 and j["attn"]["density"] is None'
r --prefix doc.cpkv -p 'Why so?' -c 500; want_fail 'doc.cpkv and the text behind it: the prompt has [0-9]+ tokens'
run run -m "$M" --prefix doc.cpkv -p x -n 4 --decode squeezed; want_rc 0; want_err 'doc.cpkv: [0-9]+ tokens in'; want_err 'moved [0-9]+ % of all'
r --prefix doc.cpkv -p 'Say.' -n 5 --temp 1 --n-samples 3; want_rc 0; want_out '^--- answer 3 of 3'
# Chat: the message begins in the snapshot and ends here.
r --chat -f doc.txt -p 'Why?' -sys Short. -n 10 --json; want_rc 0; cp out whole
c --chat -f doc.txt -sys Short. -o chat.cpkv $o --no-progress; want_rc 0; want_no_err
r --chat --prefix chat.cpkv -p 'Why?' -n 10 --json; want_rc 0
want_json 'j["prefix"]["n"] + j["prompt_n"] >= json.load(open("whole"))["prompt_n"]'
r --prefix chat.cpkv -p x; want_fail 'chat.cpkv: was made with --chat'
r --chat --prefix doc.cpkv -p x; want_fail 'doc.cpkv: was made without --chat'
# Too short for clusters is said; the snapshot is good all the same.
c -p 'A few words.' -o few.cpkv; want_rc 0; want_err 'few.cpkv: nothing is prepared for squeezed'
r --prefix few.cpkv -p more -n 3 --decode squeezed; want_rc 0
}
# What is refused.
head -c 5000 doc.cpkv >cut.cpkv; r --prefix cut.cpkv -p x; want_fail 'cut.cpkv: the snapshot is truncated'
cp doc.cpkv bad.cpkv; printf '\125' | dd of=bad.cpkv bs=1 seek=200000 conv=notrunc 2>dd; r --prefix bad.cpkv -p x
want_fail 'bad.cpkv: the snapshot is damaged'
cp doc.cpkv new.cpkv; printf '\011' | dd of=new.cpkv bs=1 seek=8 conv=notrunc 2>dd; r --prefix new.cpkv -p x
want_fail 'new.cpkv: a snapshot of version 9'
"$TINY_TOOL" write other.gguf seed=9
run run -m other.gguf --prefix doc.cpkv -p x --no-progress; want_fail 'doc.cpkv: the snapshot was made with another model than other.gguf'
r --prefix doc.txt -p x; want_fail 'doc.txt: is no snapshot'
r --prefix none.cpkv -p x; want_fail 'none.cpkv: No such file'
c -f doc.txt -o no/such/dir.cpkv --no-progress; want_fail 'no/such/dir.cpkv: No such file'
mkfifo pipe; c -f doc.txt -o pipe --no-progress; want_fail 'pipe: is there and no regular file'; [ -p pipe ] || bad "the pipe is gone"
r --prefix doc.cpkv -p x --compare; want_usage 'prefix'
r --prefix doc.cpkv -p x --truncate middle; want_usage 'prefix'
r --prefix doc.cpkv -p x -sys y --chat; want_usage 'cluster'
c -f doc.txt; want_usage 'no snapshot named'
c -o x.cpkv; want_usage 'nothing to read'
c -f doc.txt -o x.cpkv --decode squeezed:q=2; want_usage 'q=2 is not in 0..1'
