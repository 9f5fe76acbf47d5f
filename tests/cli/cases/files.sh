# SPDX-License-Identifier: MIT
# Files that are missing, wrong or cannot be read: one line that names the file and the reason.
: >empty
echo 'This is not a model.' >text.gguf
head -c 100 "$M" >short.gguf
head -c $(($(wc -c <"$M") * 2 / 3)) "$M" >cut.gguf
mkdir folder
for c in 'run -p x' 'bench -c 64' 'tokenize -p x' info; do
    # shellcheck disable=SC2086
    for f in missing.gguf empty text.gguf short.gguf cut.gguf folder; do run $c -m $f; want_fail "$f"; done
done
run run -m missing.gguf -p x; want_fail 'missing.gguf: .*[Nn]o such file'
run run -m text.gguf -p x; want_fail 'text.gguf: .*GGUF'
run run -m "$M" -f missing.txt; want_fail 'missing.txt: No such file'
run run -m "$M" -f folder; want_fail 'folder: Is a directory'
run run -m "$M" -f empty; want_fail 'empty: the prompt is empty'
run run -m "$M" -p ''; want_fail 'the prompt is empty'
run run -m "$M" -f -; want_fail 'the prompt is empty'
# What a report could not be written to is still there; one that is there is replaced as a whole.
text 2000 >ppl.txt; ln -s /dev/full full
p() { run eval ppl -m "$M" -f ppl.txt -c 64 --no-progress --html "$1"; }
p full; want_rc 1; want_err 'full: No space left'; [ -L full ] || bad "the link is gone"
echo old >report.html; p report.html; want_rc 0; grep -q '</html>' report.html || bad "not a report"
! ls report.html.*part >/dev/null 2>&1 || bad "a part is left"
run bench -m "$M" -f empty -c 64; want_fail 'empty'
run bench -m "$M" -f missing.txt -c 64; want_fail 'missing.txt'
run bench -m "$M" -c 64 --plot missing/speed.svg; want_fail 'missing/speed.svg: No such file'
run run -m "$(printf 'bad\nname\033[2J.gguf')" -p x; want_fail 'bad\?name'
cp "$M" locked.gguf; text 100 >locked.txt; chmod 0 locked.gguf locked.txt
if [ ! -r locked.txt ]; then # root reads everything
    run run -m locked.gguf -p x; want_fail 'locked.gguf: Permission denied'
    run run -m "$M" -f locked.txt; want_fail 'locked.txt: Permission denied'
fi
# What is read is never what is written.
cp "$M" mine.gguf; cp ppl.txt mine.txt; ln -s mine.gguf mine.png; cp ppl.txt mine.html
run cluster -m mine.gguf -f mine.txt -o mine.gguf; want_fail 'mine.gguf: is read here'
run cluster -m mine.gguf -f ppl.txt -f mine.txt -o ./mine.txt; want_fail 'mine.txt: is read here'
run inspect -m mine.gguf -f mine.txt -o mine.png; want_fail 'mine.png: is read here'
run eval ppl -m mine.gguf -f mine.html -c 64 --html mine.html; want_fail 'mine.html: is read here'
run eval kl -m mine.gguf -f mine.txt -c 64 --save-all-logits mine.gguf; want_fail 'mine.gguf: is read here'
cmp -s "$M" mine.gguf && cmp -s ppl.txt mine.txt && cmp -s ppl.txt mine.html || bad "a file that is read has been replaced"
