#!/usr/bin/env bash
# What `make demo` shows. Every command here is one a user would type.
set -euo pipefail
: "${BIN:?}" "${MEDIA:?}" "${LIBRARY:?}"
export IVSEARCH_LIBRARY=$LIBRARY

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
  printf '\n$ ivsearch'
  for word in "$@"; do
    case $word in *[!-A-Za-z0-9_./]*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
  "$BIN/ivsearch" "$@"
}

say "Real sample media, out of packages that ship some"
"$BIN/python" demo/sample_media.py "$MEDIA"

say "Index them: sample, decode, encode, cut, store"
run index "$MEDIA"

say "Search in any language; the times are moments inside the videos"
run search "a cat" -k 3
run search "一杯咖啡" -k 3
run search "صاروخ في الليل" -k 3

say "Ask; the answer cites the moments that prove it"
run ask "Where is the cat?"

say "Now your own"
cat <<TXT

  $BIN/ivsearch index ~/Videos ~/Pictures --library ~/my-library
  $BIN/ivsearch search "a dog in the snow" --library ~/my-library
  $BIN/ivsearch ask "Where does the dog play?" --library ~/my-library

Add $BIN to your PATH to type just \`ivsearch\`; \`ivsearch --help\` lists the rest; docs/ has the user guide.
TXT
