# shellcheck shell=bash
# The demo's web site: a long-running service on an attachable overlay network, which
# jobs on that network reach by its name.

DEMO_NETWORK=demo
PAGES_SERVICE=pages
DEMO_LABEL=jaas.demo=1

ensure_pages() {
    ensure_demo_network
    local image
    image=$(docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}} {{index .Spec.Labels "jaas.inputs"}}' \
        $PAGES_SERVICE 2>/dev/null) || image=
    if [ "$image" = "jaas-pages:latest $(image_hash jaas-pages:latest)" ]; then
        say "pages: the service $PAGES_SERVICE is already there"
    else
        [ -z "$image" ] || stop_pages
        say "pages: starting the service $PAGES_SERVICE on the network $DEMO_NETWORK"
        # dnsrr: a virtual IP needs IPVS in the kernel. KILL: httpd has nothing to tidy up.
        docker service create --detach --quiet --name $PAGES_SERVICE --network $DEMO_NETWORK \
            --label $DEMO_LABEL --label "jaas.inputs=$(image_hash jaas-pages:latest)" \
            --endpoint-mode dnsrr --no-resolve-image --stop-signal KILL jaas-pages:latest >/dev/null
    fi
    wait_until 60 pages_running ||
        die "the service $PAGES_SERVICE does not start: $(docker service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' $PAGES_SERVICE | head -n 1)"
}

ensure_demo_network() {
    if docker network inspect $DEMO_NETWORK >/dev/null 2>&1; then return; fi
    docker network create --driver overlay --attachable --label $DEMO_LABEL $DEMO_NETWORK >/dev/null
    say "pages: made the overlay network $DEMO_NETWORK"
}

pages_running() {
    docker service ps --filter desired-state=running --format '{{.CurrentState}}' $PAGES_SERVICE 2>/dev/null | grep -q '^Running'
}

# stop_pages removes what carries our label and nothing else that has the same name.
stop_pages() {
    local services
    services=$(docker service ls --quiet --filter label=$DEMO_LABEL 2>/dev/null) || return 0
    if [ -n "$services" ]; then
        # shellcheck disable=SC2086  # a list of ids
        docker service rm $services >/dev/null
        wait_until 30 no_pages_container || say "pages: a container of the service is still there"
        say "pages: removed the service $PAGES_SERVICE"
    fi
}

no_pages_container() {
    [ -z "$(docker ps --quiet --filter label=com.docker.swarm.service.name=$PAGES_SERVICE)" ]
}

stop_demo_network() {
    local networks
    networks=$(docker network ls --quiet --filter label=$DEMO_LABEL 2>/dev/null) || return 0
    [ -n "$networks" ] || return 0
    if wait_until 20 remove_networks "$networks"; then
        say "pages: removed the network $DEMO_NETWORK"
    else
        say "pages: the network $DEMO_NETWORK stays, something still uses it"
    fi
}

remove_networks() {
    # shellcheck disable=SC2086  # a list of ids
    docker network rm $1 >/dev/null 2>&1
}
