# shellcheck shell=bash
# The repository's own virtual environment, with this package and all its extras.

ensure_venv() {
    local stamp=$VENV/.jaas-stamp wanted out
    if [ ! -f "$REPO/pyproject.toml" ]; then
        say "venv: skipped, there is no pyproject.toml yet"
        return
    fi
    wanted=$(sha256sum <"$REPO/pyproject.toml")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
        say "venv: up to date ($VENV)"
        return
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die -2 "Python 3.11 or newer is needed, but $(type -P python3) is $(python3 -V 2>&1)"
    say "venv: installing this package and its extras into $VENV"
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$VENV"
    out=$("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable "${REPO}[dev]" 2>&1 9>&-) || die "pip install failed:"$'\n'"$out"
    echo "$wanted" >"$stamp"
}
