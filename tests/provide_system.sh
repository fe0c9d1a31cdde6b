#!/bin/sh
# What some tests need and no wheel ships: a Chromium with its driver, and MariaDB's programs.
#
#     sh tests/provide_system.sh STAMP
#
# As root, where there is apt-get, it installs what is missing (programs only: no service is
# started); otherwise it says what will be skipped. It never fails: a test whose program is missing
# skips itself with the reason. STAMP is made once this has been tried; delete it to try again.
# TAILRACE_TEST_INSTALL=0 leaves the machine as it is.
set -u
stamp=$1
PATH=$PATH:/usr/sbin:/usr/local/sbin

has() {
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 && return 0
    done
    return 1
}

has_browser() {
    has chromium chromium-browser google-chrome google-chrome-stable &&
        has chromedriver chromium.chromedriver
}

has_mariadb() {
    # The install program is a script, and one of its parts comes with the client's programs.
    has mariadbd mysqld && has mariadb-install-db mysql_install_db && has my_print_defaults
}

apt() {
    # Bounded: a machine without a way out must not keep its tests waiting for long.
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -o Acquire::http::Timeout=20 \
        -o Acquire::Retries=1 -o DPkg::Lock::Timeout=60 "$@" </dev/null >/dev/null 2>&1
}

# Install one thing: its name, how to see whether it is there, its packages.
provide() {
    what=$1 is_there=$2
    shift 2
    "$is_there" && return
    if [ "${TAILRACE_TEST_INSTALL:-1}" = 0 ] || [ "$(id -u)" != 0 ] || ! has apt-get; then
        echo "No $what here: its tests will be skipped. To run them: apt-get install $*"
        tried=no
        return
    fi
    echo "Installing $what for the tests ($*); TAILRACE_TEST_INSTALL=0 keeps it from that..."
    [ "$lists" = fresh ] || apt update || true
    lists=fresh
    apt install --yes --no-install-recommends "$@"
    "$is_there" || echo "That did not work: the tests of $what will be skipped."
}

tried=yes lists=old
provide Chromium has_browser chromium chromium-driver
provide MariaDB has_mariadb mariadb-server-core mariadb-client-core
[ "$tried" = no ] || touch "$stamp"
exit 0
