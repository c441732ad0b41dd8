#!/bin/sh
# Installs worker-orcd from a release, after checking its SHA-256.
#
#     sh install.sh [--prefix FOLDER] [FROM]
#
# FROM is the folder of a release, or its https address (default: the folder of this script). The binary goes to FOLDER/bin (default: ~/.local/bin).
# An address is only as good as the channel that SHA256SUMS came by: compare it with what the publisher signed.
set -eu

prefix=${HOME:+$HOME/.local}
from=$(dirname "$0")
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=${2:?--prefix needs a folder}; shift 2 ;;
        -*) echo "usage: install.sh [--prefix FOLDER] [FROM]" >&2; exit 2 ;;
        *) from=$1; shift ;;
    esac
done
: "${prefix:?there is no HOME: give --prefix FOLDER}"

case $(uname -s)-$(uname -m) in
    Linux-x86_64) target=x86_64-unknown-linux-gnu ;;
    Linux-aarch64) target=aarch64-unknown-linux-gnu ;;
    *) echo "error: there are releases for Linux on x86-64 and arm64, not for $(uname -s) on $(uname -m)" >&2; exit 1 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

get() {
    case $from in
        https://*) curl --fail --silent --show-error --location --proto '=https' --output "$work/$1" "$from/$1" ;;
        *://*) echo "error: expected a folder or an https address, found $from" >&2; exit 1 ;;
        *) cp "$from/$1" "$work/$1" ;;
    esac
}

get SHA256SUMS
# Only names that the program gives its archives: nothing that would leave the folder.
archive=$(sed -n "s/^[0-9a-f]\{64\}  \(worker-orcd-[0-9A-Za-z.+-]*-$target\.tar\.gz\)\$/\1/p" "$work/SHA256SUMS")
[ -n "$archive" ] || { echo "error: SHA256SUMS names no archive for $target" >&2; exit 1; }
get "$archive"
(cd "$work" && grep "  $archive\$" SHA256SUMS | sha256sum --check --quiet -) ||
    { echo "error: the archive is not the one that SHA256SUMS names; nothing was installed" >&2; exit 1; }
tar -xzf "$work/$archive" -C "$work"
mkdir -p "$prefix/bin"
install -m 755 "$work/${archive%.tar.gz}/worker-orcd" "$prefix/bin/worker-orcd"
version=$("$prefix/bin/worker-orcd" --version) ||
    { echo "error: $prefix/bin/worker-orcd does not run here; a release needs the glibc that its wheel is named after" >&2; exit 1; }
echo "$version is now $prefix/bin/worker-orcd"
case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) echo "$prefix/bin is not in PATH: add it, or call the program by this path" ;;
esac
