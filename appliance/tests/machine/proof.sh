#!/bin/sh
# Runs as root inside the booted machine: the life of the package, from installation to purge.
# Prints "ok NAME" or "not ok NAME: WHY" for each thing that it looked at, and "end" when it got there.
set -u
cd /
export DEBIAN_FRONTEND=noninteractive

tell() { # tell NAME COMMAND...: the command says whether it holds
    name=$1
    shift
    if why=$("$@" 2>&1); then
        echo "ok $name"
    else
        echo "not ok $name: $(echo "$why" | tail -n 3 | tr '\n' ' ')"
    fi
}
holds() { # holds NAME TEXT PATTERN
    tell "$1" sh -c 'echo "$0" | grep -Eq -- "$1"' "$2" "$3"
}
not() { ! "$@"; }
ready() { curl --silent --fail --insecure --max-time 20 --retry 20 --retry-delay 1 --retry-all-errors https://localhost:8443/readyz; }
pid() { systemctl show --property=MainPID --value lodge.service; }
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(pid)/status"; }
same() { [ "$1" = "$2" ] || { echo "$1 is not $2"; false; }; }
owner() { same "$(stat --format='%U:%G %a' "$1")" "$2"; }

said=$(dpkg --install /shared/lodge.deb 2>&1)
tell "the package installs" test $? = 0
echo "$said" | sed 's/^/# /'
holds "installing prints an address" "$said" 'https://[^ ]+:8443'
holds "installing prints the certificate's fingerprint" "$said" '([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{64}'
holds "installing prints the set-up address" "$said" 'https://[^ ]+/setup#[A-Za-z0-9_-]{16,}'
tell "the service is active" systemctl is-active lodge.service
tell "the socket is active" systemctl is-active lodge.socket
tell "both start with the machine" systemctl is-enabled lodge.service lodge.socket
tell "it is ready over TLS" ready

tell "the data is the service's own" owner /var/lib/lodge 'lodge:lodge 700'
tell "the settings are not for everybody" owner /etc/lodge/lodge.toml 'root:lodge 640'
tell "it runs as its own user" same "$(id -u lodge)" "$(status Uid | cut -f1)"
tell "it holds no capability" same "$(status CapEff)" 0000000000000000
tell "it can gain no privilege" same "$(status NoNewPrivs)" 1
tell "its system calls are filtered" same "$(status Seccomp)" 2
tell "the operator can ask for a new set-up address" sh -c 'lodge setup --config /etc/lodge/lodge.toml | grep -q /setup#'

first=$(pid)
kill -9 "$first"
tell "it comes back after kill -9" ready
tell "it is another process" not test "$(pid)" = "$first"

systemctl stop lodge.service
tell "who comes while it is stopped waits and is served" ready

marks() { find /var/lib/lodge -name STORE -exec cksum {} +; }
before=$(marks)
tell "there is a store" test -n "$before"
echo '# a line of the operator' >> /etc/lodge/lodge.toml
before_upgrade=$(pid)
said=$(dpkg --install /shared/lodge.deb 2>&1)
tell "it upgrades over itself" test $? = 0
tell "the new one is ready" ready
tell "the upgrade started it anew" not test "$(pid)" = "$before_upgrade"
tell "the upgrade keeps the store" same "$(marks)" "$before"
tell "the upgrade keeps the operator's settings" grep -q 'a line of the operator' /etc/lodge/lodge.toml
tell "the upgrade keeps who may read them" owner /etc/lodge/lodge.toml 'root:lodge 640'
tell "the upgrade prints no set-up address" sh -c '! echo "$0" | grep -q /setup#' "$said"

dpkg --remove lodge >/dev/null 2>&1
tell "the package is removed" test $? = 0
tell "removed, nothing runs" not systemctl is-active lodge.service lodge.socket
tell "removed, nothing listens" not curl --silent --insecure --max-time 5 https://localhost:8443/readyz
tell "removed, the data stays" same "$(marks)" "$before"
dpkg --install /shared/lodge.deb >/dev/null 2>&1
tell "installed again, it is ready on the same data" ready
tell "installed again, the store is the same" same "$(marks)" "$before"

dpkg --purge lodge >/dev/null 2>&1
tell "the package is purged" test $? = 0
tell "purged, nothing runs" not systemctl is-active lodge.service lodge.socket
for left in /etc/lodge /var/lib/lodge /run/lodge /usr/bin/lodge /usr/share/doc/lodge \
    /usr/lib/systemd/system/lodge.service /etc/systemd/system/lodge.service \
    /etc/systemd/system/multi-user.target.wants/lodge.service /etc/systemd/system/sockets.target.wants/lodge.socket \
    /usr/lib/sysusers.d/lodge.conf /usr/lib/tmpfiles.d/lodge.conf; do
    tell "purged, $left is gone" not test -e "$left" -o -L "$left"
done
tell "no unit failed" same "$(systemctl --failed --plain --no-legend | grep -v proof.service)" ""
journalctl --boot --no-pager --unit lodge.service > /shared/journal 2>&1
echo end
