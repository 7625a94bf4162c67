#!/usr/bin/env bash
# dist.sh: .build/dist/step3-toolkit-VERSION-linux-ARCH.tar.gz and its SHA-256, for machines without Swift. It brings what is not
# on every Debian and Ubuntu since the one that it is made on; unpack it anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(uname -s)" = Linux ] || { echo "error: tarballs are for Linux; on macOS use Homebrew or make install" >&2; exit 1; }
rm -rf .build/dist
mkdir -p .build/dist/stage
BUNDLED_LIBRARIES=1 DESTDIR="$PWD/.build/dist/stage" Packaging/install.sh ""
version=$(.build/dist/stage/bin/step3-inspect --version)
name=step3-toolkit-$version-linux-$(uname -m)
stage=.build/dist/$name
mv .build/dist/stage "$stage"

# The libraries that the tools are linked with, and those of these, but for the C library's own and those whose place is with
# the system: certificates and name services belong to it. OpenBLAS is opened when it is wanted.
mkdir -p "$stage/lib/step3-toolkit"
wanted() {
  for object in "$@"; do ldd "$object"; done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -Ev '/(ld-linux[^/]*|libc|libm|libdl|libpthread|librt|libresolv|libnss_[a-z]*)\.so\.'
}
openblas=$(ldconfig -p | awk '$1 == "libopenblas.so.0" && !found { print $NF; found = 1 }')
libraries=$(wanted "$stage"/bin/* ${openblas:+"$openblas"})
for library in $libraries ${openblas:+"$openblas"}; do
  install -m 644 "$(readlink -f "$library")" "$stage/lib/step3-toolkit/$(basename "$library")"
done
for library in $libraries ${openblas:+"$openblas"}; do
  package=$(dpkg-query -S "$(readlink -f "$library")" 2>/dev/null | sed -n '1s/:.*//p') || continue
  [ -z "$package" ] || [ ! -f "/usr/share/doc/$package/copyright" ] ||
    install -D -m 644 "/usr/share/doc/$package/copyright" "$stage/share/doc/step3-toolkit/libraries/$package"
done
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='2026-01-01 00:00Z' -C .build/dist -czf "$stage.tar.gz" "$name"
(cd .build/dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$stage.tar.gz: $(du -h "$stage.tar.gz" | cut -f1)"
