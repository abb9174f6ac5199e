# shellcheck shell=bash
# Debian packages: only those that are missing, and nothing on a machine that has all.

# missing_packages: one name a line. Asks for commands rather than packages, so that
# another vendor's engine or Python counts too.
missing_packages() {
    have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || echo python3-venv
    if ! find_docker >/dev/null; then
        # From Debian 13 on the client is a package of its own.
        if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
    fi
    if ! { [ -n "${DOCKER_HOST:-}" ] || engine_answers; }; then
        have dockerd || echo docker.io
        have iptables || echo iptables
    fi
    have ip || echo iproute2
    if [ "${FOR_TESTS:-no}" = yes ]; then
        have redis-server || echo redis-server
        have docker-registry || echo docker-registry
        have luacheck || echo lua-check
        have shellcheck || echo shellcheck
        have prometheus || echo prometheus
        have nginx || echo nginx-light
        have chromium || echo chromium
        have chromedriver || echo chromium-driver
    fi
}

ensure_packages() {
    local missing
    missing=$(missing_packages | sort -u)
    if [ -z "$missing" ]; then
        say "packages: nothing is missing"
        return
    fi
    missing=$(echo "$missing" | tr '\n' ' ')
    is_root || die -2 "these Debian packages are missing and only root can install them: $missing"
    command -v apt-get >/dev/null || die -2 "these programs are missing and this is no Debian, install them by hand: $missing"
    say "packages: installing $missing"
    apt_get update
    # The list may differ now: whether docker-cli exists is known only after the update.
    missing=$(missing_packages | sort -u | tr '\n' ' ')
    # shellcheck disable=SC2086  # a list of names
    apt_get install --yes --no-install-recommends $missing
    missing=$(missing_packages | sort -u | tr '\n' ' ')
    [ -z "$missing" ] || die -2 "still missing after the installation: $missing"
}

# apt_get ARGUMENTS: quiet unless it fails.
apt_get() {
    local out
    out=$(DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" 2>&1 9>&-) ||
        die "apt-get $* failed:"$'\n'"$out"
}

# apt_download FOLDER PACKAGE...: the .deb files, not installed. Refreshes the
# package lists once if a package is unknown or its file has left the mirror.
apt_download() {
    local folder=$1
    shift
    mkdir -p "$folder"
    apt_download_now "$folder" "$@" && return
    is_root || die -2 "cannot download $* (package lists missing or old; run apt-get update as root)"
    apt_get update
    apt_download_now "$folder" "$@" || die "cannot download these Debian packages: $*"
}

apt_download_now() {
    (cd "$1" && shift && apt-get -q -o APT::Sandbox::User=root download "$@" >/dev/null 2>&1)
}
