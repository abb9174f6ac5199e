# shellcheck shell=bash
# Engines of Debian's newer releases: downloaded and unpacked below the state folder, never installed. A node of the lab
# takes one by mounting its /usr over its own (lib/lab-node), as newer programs need that release's C library, too.

ENGINES_DIR=$STATE/engines

engine_usr() { echo "$ENGINES_DIR/$1/usr"; } # engine_usr RELEASE

# ensure_engine_of RELEASE: downloads and unpacks its engine, unless that has been done.
ensure_engine_of() {
    local release=$1 folder=$ENGINES_DIR/$1
    case $release in '' | *[!a-z]*) die -2 "not the name of a Debian release: $release" ;; esac
    if [ -e "$folder/complete" ]; then return; fi
    say "engines: downloading and unpacking the engine of Debian's $release"
    rm -rf "$folder"
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $release main" >"$folder/apt/sources.list"
    apt_of "$release" update >/dev/null
    download_engine "$release"
    unpack_engine "$folder"
    rm -rf "$folder/apt" "$folder/debs"
    : >"$folder/complete"
}

# apt_of RELEASE ARGUMENTS: apt with lists and a cache of its own, as on a machine of that release without any package.
# Prints what apt does.
apt_of() {
    local folder=$ENGINES_DIR/$1
    shift
    DEBIAN_FRONTEND=noninteractive apt-get -q -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::status=/dev/null \
        -o Dir::Cache="$folder/apt/cache" -o Dir::Etc::SourceList="$folder/apt/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root "$@" 2>>"$folder/apt/errors" 9>&- ||
        die "apt-get $1 failed: $(tail -n 5 "$folder/apt/errors")"
}

# debian_mirror: the one that this machine uses.
debian_mirror() {
    local found
    # shellcheck disable=SC2016  # apt's own variables
    found=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' 2>/dev/null |
        awk '$2 !~ /security/ && $3 == "Debian" { print $1; exit }')
    echo "${found:-http://deb.debian.org/debian}"
}

# download_engine RELEASE: the engine and all that it needs. coreutils: what runs in a node's namespaces.
download_engine() {
    local folder=$ENGINES_DIR/$1 packages
    apt_of "$1" install --simulate --no-install-recommends docker.io docker-cli iptables coreutils >"$folder/apt/plan"
    packages=$(awk '$1 == "Inst" { print $2 }' "$folder/apt/plan")
    # shellcheck disable=SC2086  # a list of names
    (cd "$folder/debs" && apt_of "$1" download $packages >/dev/null)
}

unpack_engine() {
    local folder=$1 name package
    mkdir -p "$folder/usr/bin" "$folder/usr/sbin" "$folder/usr/lib" "$folder/usr/lib64"
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$folder/$name"; done
    for package in "$folder"/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -C "$folder" --keep-directory-symlink -x
    done
    # What update-alternatives would do.
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -sf xtables-nft-multi "$folder/usr/sbin/$name"
    done
    [ -x "$folder/usr/sbin/dockerd" ] || die "the engine's packages have no /usr/sbin/dockerd"
}
