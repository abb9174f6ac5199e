# shellcheck shell=bash
# Which scripts use the engine and the Redis in the state folder, so that the end of a demo
# does not stop those of a test run, nor the other way round.

USERS_DIR=$STATE/users

# use_state: until this script ends, it uses what is in the state folder.
use_state() {
    mkdir -p "$USERS_DIR"
    echo "$0" >"$USERS_DIR/$$"
}

# others_using: one line for each other user that is alive, such as "test (pid 123)".
others_using() {
    local file pid script
    for file in "$USERS_DIR"/*; do
        pid=${file##*/}
        if [ ! -f "$file" ] || [ "$pid" = $$ ]; then continue; fi
        script=$(cat "$file")
        # The number may have been given to another process meanwhile.
        if pid_alive "$pid" && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$script"; then
            echo "scripts/${script##*/} (pid $pid)"
        else
            rm -f "$file"
        fi
    done
    if pid=$(running_pid "$STATE/worker/pid"); then echo "the demo's worker (pid $pid)"; fi
}
