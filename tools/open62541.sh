#!/usr/bin/env bash
# Brings open62541 1.4 (libraries and headers, from Debian by this machine's own package source) into DIR, by default
# .peers/open62541, without installing anything. The release that has it (trixie) is newer than the ones the project
# supports; its libraries run on the older ones too.
# Compile with -I DIR/root/usr/include, link with -L DIR/lib -Wl,---disable-new-dtags,-rpath,DIR/lib -lopen62541 -Wl,--allow-shlib-undefined
set -eu
dir=${1:-$(dirname "$0")/../.peers/open62541}
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
cd "$dir"
if [ ! -e lib ]; then
    source=$(grep -rhE '^(URIs:|deb )' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
        grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1 | tr -d ' ')
    [ -n "$source" ] || { echo "open62541: no Debian package source on this machine" >&2; exit 1; }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source trixie main" > sources.list
    apt_options=(-o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=root)
    apt-get "${apt_options[@]}" update -qq
    apt-get "${apt_options[@]}" download -qq libopen62541-1.4 libopen62541-1.4-dev libmbedcrypto16 libmbedx509-7
    for package in *.deb; do dpkg-deb -x "$package" root; done
    libraries=$(echo root/usr/lib/*/libopen62541.so.1.4*)
    ln -sfn "$(dirname "${libraries%% *}")" lib
fi
echo "$PWD"
