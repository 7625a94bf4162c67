#!/usr/bin/env bash
# install.sh PREFIX: the tools, their man pages and their completions for bash, zsh and fish, built with Swift's libraries
# inside, below PREFIX. With DESTDIR set, below that: for those who make packages.
#
# The build is kept in .build/static, beside the ordinary one.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${1?usage: install.sh PREFIX}
root=${DESTDIR:-}$prefix
tools=(step3-convert step3-inspect step3-verify)

options=(-c release --scratch-path .build/static)
# On macOS Swift's libraries are the system's.
[ "$(uname -s)" = Darwin ] || options+=(--static-swift-stdlib)
# Libraries that a tarball brings lie beside the tools.
# (The older tag holds for the libraries' libraries too.)
[ -z "${BUNDLED_LIBRARIES:-}" ] ||
  options+=(-Xlinker -rpath -Xlinker "\$ORIGIN/../lib/step3-toolkit" -Xlinker --disable-new-dtags)
for tool in "${tools[@]}"; do swift build "${options[@]}" --product "$tool"; done
built=$(swift build "${options[@]}" --show-bin-path)

mkdir -p "$root/bin" "$root/share/man/man1" "$root/share/bash-completion/completions" \
  "$root/share/zsh/site-functions" "$root/share/fish/vendor_completions.d" "$root/share/doc/step3-toolkit"
for tool in "${tools[@]}"; do
  install -m 755 "$built/$tool" "$root/bin/$tool"
  [ "$(uname -s)" = Darwin ] || strip "$root/bin/$tool"
  install -m 644 "Manuals/man/$tool.1" "$root/share/man/man1/$tool.1"
  "$built/$tool" --generate-completion-script bash >"$root/share/bash-completion/completions/$tool"
  "$built/$tool" --generate-completion-script zsh >"$root/share/zsh/site-functions/_$tool"
  "$built/$tool" --generate-completion-script fish >"$root/share/fish/vendor_completions.d/$tool.fish"
done
install -m 644 README.md NOTICE Manuals/*.md "$root/share/doc/step3-toolkit/"
[ ! -f LICENSE ] || install -m 644 LICENSE "$root/share/doc/step3-toolkit/"
echo "installed ${tools[*]} in $root"
