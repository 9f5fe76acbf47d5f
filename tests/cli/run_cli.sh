#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program as a user meets it: exit codes, what goes to stdout and what to stderr, files that are wrong, pipes,
# signals, help texts.  Every file of cases/ is one case, run in an empty folder of its own with lib.bash loaded.
#   usage: run_cli.sh PROGRAM [TINY_TOOL] [WORKDIR] [CASE...]
# UPDATE=1 in the environment writes golden/ anew instead of comparing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:?usage: run_cli.sh PROGRAM [TINY_TOOL] [WORKDIR] [CASE...]}")
tool=$(realpath "${2:-${CRIT_BUILD_DIR:-.}/tests/tiny}")
work=${3:-}
shift; [ $# -eq 0 ] || shift; [ $# -eq 0 ] || shift
if [ -z "$work" ]; then
    work=$(mktemp -d "${CRIT_TEST_TMP:-${TMPDIR:-/tmp}}/cli.XXXXXX")
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
work=$(realpath "$work")

# One small model for all cases, its name as any name may be.
model="$work/tiny model.gguf"
"$tool" write "$model" || { echo "run_cli: $tool did not write a model" >&2; exit 1; }

failed=()
skipped=()
cases=("$@")
[ ${#cases[@]} -gt 0 ] || for f in "$here"/cases/*; do n=${f##*/}; cases+=("${n%.*}"); done
for name in "${cases[@]}"; do
    rm -rf "$work/$name"
    mkdir "$work/$name"
    if (
        cd "$work/$name" || exit 1
        export P=$program M=$model TINY_TOOL=$tool CLI_DIR=$here
        if [ -f "$here/cases/$name.py" ]; then exec python3 "$here/cases/$name.py"; fi
        # shellcheck source=lib.bash
        . "$here/lib.bash"
        # shellcheck disable=SC1090
        . "$here/cases/$name.sh"
        [ "$n_bad" -eq 0 ]
    ); then echo "ok   $name"; elif [ $? -eq 77 ]; then echo "skip $name"; skipped+=("$name"); else echo "FAIL $name"; failed+=("$name"); fi
done
if [ ${#failed[@]} -gt 0 ]; then echo "failed: ${failed[*]}" >&2; exit 1; fi
[ ${#skipped[@]} -lt ${#cases[@]} ] || exit 77
