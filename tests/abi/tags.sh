#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every [alg:x] in sources and headers resolves to an anchor of doc/ALGORITHM.md, written there as  <a id="alg:x"></a>
# or as [alg:x] in a heading.
set -euo pipefail
cd "$(dirname "$0")/../.."
doc=doc/ALGORITHM.md
if [ ! -f "$doc" ]; then echo "no $doc yet"; exit 77; fi

used=$(grep -rhoE '\[alg:[a-z0-9_-]+\]' src include programs tests --include='*.c' --include='*.h' --include='*.inc' | sort -u)
anchors=$({ grep -oE '<a (id|name)="alg:[a-z0-9_-]+"' "$doc" | sed -E 's/.*"(alg:[^"]*)"/[\1]/'
            grep -E '^#+ ' "$doc" | grep -oE '\[alg:[a-z0-9_-]+\]'; } | sort -u)
rc=0
lost=$(comm -23 <(printf '%s\n' "$used") <(printf '%s\n' "$anchors") | sed '/^$/d')
if [ -n "$lost" ]; then echo "tags without an anchor in $doc:"; echo "$lost"; rc=1; fi
exit $rc
