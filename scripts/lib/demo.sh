# shellcheck shell=bash
# The demo's two long-running programs: a worker and Flower.

WORKER_DIR=$STATE/worker
FLOWER_DIR=$STATE/flower

# --- worker ---

ensure_worker() {
    if worker_is_current && worker_ready; then
        say "worker: using the one that is already running (pid $(running_pid "$WORKER_DIR/pid"))"
        return
    fi
    stop_worker
    say "worker: starting it (log: $WORKER_DIR/log)"
    mkdir -p "$WORKER_DIR"
    printf '%s\n' "$JAAS_REDIS_URL" "$DOCKER_HOST" >"$WORKER_DIR/uses"
    start_daemon "$WORKER_DIR/pid" "$WORKER_DIR/log" "$VENV/bin/jaas" worker
    wait_until 60 worker_ready_or_dead || true
    worker_ready || die "the worker does not get ready; jaas doctor says:"$'\n'"$("$VENV/bin/jaas" doctor 2>&1 || true)"$'\n'"and the end of its log is:"$'\n'"$(tail -n 15 "$WORKER_DIR/log")"
}

# worker_is_current: it runs, it uses this Redis and engine, and the code has not changed.
worker_is_current() {
    running_pid "$WORKER_DIR/pid" >/dev/null || return 1
    [ "$(cat "$WORKER_DIR/uses")" = "$(printf '%s\n' "$JAAS_REDIS_URL" "$DOCKER_HOST")" ] || return 1
    [ -z "$(find "$REPO/jaas_submit" "$REPO/jaas_worker" -name '*.py' -newer "$WORKER_DIR/pid" -print -quit)" ]
}

# Warnings, such as of jobs without a memory limit, have an exit code of their own, and do not count here.
worker_ready() {
    { "$VENV/bin/jaas" doctor --no-engine --json 2>/dev/null || true; } | grep -q '"name": "workers", "verdict": "ok"'
}
worker_ready_or_dead() { worker_ready || ! running_pid "$WORKER_DIR/pid" >/dev/null; }

stop_worker() {
    if stop_daemon "$WORKER_DIR/pid" 30; then say "worker: stopped"; fi
    rm -rf "$WORKER_DIR"
}

# --- Flower ---

ensure_flower() {
    local port
    if flower_answers; then
        say "flower: using the one that is already running"
        return
    fi
    stop_flower
    port=$(free_port 5555)
    say "flower: starting it on 127.0.0.1:$port (log: $FLOWER_DIR/log)"
    mkdir -p "$FLOWER_DIR"
    echo "$port" >"$FLOWER_DIR/port"
    printf '%s\n' "$JAAS_REDIS_URL" >"$FLOWER_DIR/uses"
    # Whoever reaches Flower's API may submit tasks, so it never runs without a password.
    (umask 077 && printf 'demo:%s' "$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')" >"$FLOWER_DIR/auth")
    FLOWER_BASIC_AUTH=$(cat "$FLOWER_DIR/auth") \
        start_daemon "$FLOWER_DIR/pid" "$FLOWER_DIR/log" "$VENV/bin/celery" -A jaas_submit.dashboard.flower_app flower \
        --conf="$REPO/docker/flowerconfig.py" --db="$FLOWER_DIR/db" --address=127.0.0.1 --port="$port"
    wait_until 60 flower_answers || die "Flower does not answer; the end of its log:"$'\n'"$(tail -n 8 "$FLOWER_DIR/log")"
}

flower_url() { echo "http://$(cat "$FLOWER_DIR/auth")@127.0.0.1:$(cat "$FLOWER_DIR/port")"; }

flower_answers() {
    running_pid "$FLOWER_DIR/pid" >/dev/null && [ "$(cat "$FLOWER_DIR/uses")" = "$JAAS_REDIS_URL" ] &&
        "$VENV/bin/python" - "$(cat "$FLOWER_DIR/port")" 2>/dev/null <<'PYTHON'
import http.client, sys
flower = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=3)
flower.request("GET", "/healthcheck")
sys.exit(flower.getresponse().status != 401)  # it asks for its password
PYTHON
}

stop_flower() {
    if stop_daemon "$FLOWER_DIR/pid"; then say "flower: stopped"; fi
    rm -rf "$FLOWER_DIR"
}
