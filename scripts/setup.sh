#!/usr/bin/env bash
# Installs what the tests, the demo and the benchmarks run on: real Docker clients and engines, a real Consul.
#
#   bash scripts/setup.sh          as root, on Debian 12 or 13 with Node 20
#   bash scripts/setup.sh peers    also what npm run peers needs: docker-compose's own tests, and pytest
#   bash scripts/setup.sh docker RELEASE    also the Docker of another Debian release, such as trixie
#
# Engine, clients and network tools come through apt. What should not be installed system-wide (another Debian
# release's binaries, or packages that would start a daemon) is unpacked into .cache/, which git ignores, and is the same on
# every release.
# Run it as often as you like: what is there already is left alone, and nothing is left running.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="$root/.cache"
bin="$cache/bin"
policy=/usr/sbin/policy-rc.d
policy_is_ours=

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
codename="$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}" || true)"
# the release of what is unpacked: the last that has docker-compose 1.29
usual=bookworm
is_compose1() { has docker-compose && docker-compose --version 2>/dev/null | grep -q 'version 1\.'; }
newer() { [ -e "$1" ] && [ ! "$2" -nt "$1" ]; }

# --- what is missing -------------------------------------------------------------------------------------------

packages=() # to install
unpack=()   # to unpack into the cache
needs() { has "$1" || packages+=("$2"); }

needs dockerd docker.io
if [ "$codename" != "$usual" ]; then # on Debian 12 docker.io has the client, which needs no buildx to build
	needs docker docker-cli
	docker buildx version >/dev/null 2>&1 || packages+=(docker-buildx)
fi
needs iptables iptables
needs ip iproute2
needs nsenter util-linux
needs openssl openssl
needs wg wireguard-tools
needs wireguard-go wireguard-go # where the kernel has no WireGuard
needs tcpdump tcpdump
needs ps procps # docker top asks it
/usr/bin/python3 -I -c 'import docker' 2>/dev/null || packages+=(python3-docker)
# by path: npm's PATH has another program of that name; the demo needs it to leave no empty tables behind
[ -x /usr/sbin/nft ] || packages+=(nftables)

if { [ ! -x "$bin/docker-compose" ] || [ ! -d "$cache/compose1" ]; } && ! is_compose1; then
	if [ "$codename" = "$usual" ] && ! has docker-compose; then packages+=(docker-compose); else unpack+=(docker-compose); fi
fi
[ -x "$bin/busybox" ] || unpack+=(busybox)
[ -x "$bin/docker-registry" ] || unpack+=(docker-registry)
[ -x "$cache/redis/usr/bin/redis-server" ] || unpack+=(redis)
[ -x "$bin/docker-compose-v2" ] || unpack+=(docker-compose-v2)
has consul || [ -x "$bin/consul" ] || unpack+=(consul)
if [ "${1:-}" = docker ]; then
	[ -n "${2:-}" ] || die "which Debian release's? such as: bash scripts/setup.sh docker trixie"
	[ -d "$cache/engine-$2" ] || unpack+=("engine-$2")
fi
if [ "${1:-}" = peers ]; then
	[ "$codename" = "$usual" ] || die "npm run peers needs Debian's $usual: docker-compose's own tests run on its Python"
	[ -d "$cache/pytest" ] || unpack+=(pytest)
	[ -d "$cache/docker-compose" ] || unpack+=(docker-compose-tests)
fi

if [ ${#packages[@]} -gt 0 ] || [ ${#unpack[@]} -gt 0 ]; then
	missing="$(echo ${packages[*]} ${unpack[*]})"
	# Ubuntu has apt-get too, and none of the other releases that parts are fetched from
	has apt-get && [ "$(. /etc/os-release && echo "$ID")" = debian ] ||
		die "this is not Debian; install by hand: $missing (what is to be in .cache/ is told in this script). To run arpanet none of it is needed: see the README"
	[ -n "$codename" ] || die "/etc/os-release does not say which release of Debian this is (VERSION_CODENAME)"
	[ "$(id -u)" = 0 ] || die "missing: $missing. Run as root: bash scripts/setup.sh"
fi

# --- apt -------------------------------------------------------------------------------------------------------

# Several checkouts may set themselves up at once; apt waits for its lock instead of failing.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root "$@"; }

updated=
update() { # once, and only when apt does not know the packages asked for
	[ -z "$updated" ] || return 0
	apt-cache show "$@" >/dev/null 2>&1 && return 0
	refresh
}
refresh() {
	say "reading the package lists"
	apt update
	updated=yes
}
try_twice() { # lists from long ago name versions that are gone: read them again
	"$@" || { refresh; "$@"; }
}

restore_policy() { [ -z "$policy_is_ours" ] || rm -f "$policy"; }
trap restore_policy EXIT

install_packages() {
	say "installing $*"
	update "$@"
	if [ ! -e "$policy" ]; then # no daemon is to be started by being installed
		policy_is_ours=yes
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	try_twice apt install -y --no-install-recommends "$@" >/dev/null
}

# fetch DIR PACKAGE...: unpacks packages into DIR, installing nothing
fetch() {
	local into="$1" debs
	[ "$codename" = "$usual" ] || { fetch_from "$usual" "$@"; return; }
	shift
	update "$@"
	debs="$(mktemp -d "$cache/debs.XXXXXX")"
	try_twice download "$debs" "$@"
	unpack_all "$debs" "$into"
}

# fetch_from SUITE DIR PACKAGE...: the same from another Debian release, leaving the system's own sources alone
fetch_from() {
	local into="$2" private debs options
	private_apt deb "$1"
	shift 2
	debs="$private/debs"
	mkdir "$debs"
	download "$debs" "$@" "${options[@]}"
	unpack_all "$debs" "$into"
	rm -rf "$private"
}

# fetch_source DIR PACKAGE: what its authors released, of this release of Debian, into DIR
fetch_source() {
	local into="$1" package="$2" private options tree
	private_apt deb-src
	tree="$private/tree"
	mkdir "$tree"
	(cd "$private" && apt "${options[@]}" source --download-only "$package" >/dev/null)
	tar -C "$tree" --strip-components=1 -xf "$private"/*.orig.tar.*
	mv -T "$tree" "$into"
	rm -rf "$private"
}

# private_apt KIND [SUITE]: lists of deb or deb-src of this or another Debian release, in $private, for apt with $options
private_apt() {
	local kind="$1" suite source
	suite="${2:-$codename}"
	private="$(mktemp -d "$cache/apt-$suite.XXXXXX")"
	mkdir -p "$private/sources" "$private/lists/partial" "$private/archives/partial"
	for source in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
		[ -s "$source" ] || continue
		case "$source" in
		*.sources) # only the paragraph with the release itself: other suites have other names elsewhere
			awk -v RS= -v ORS='\n\n' -v from="$codename" -v to="$suite" -v kind="$kind" '
				$0 ~ "(^|\n)Suites:([^\n]* )?" from "([ \n]|$)" {
					gsub("(^|\n)Types:[^\n]*", "\nTypes: " kind)
					gsub("(^|\n)Suites:[^\n]*", "\nSuites: " to); print }' "$source" >"$private/sources/$suite.sources" ;;
		*)
			awk -v from="$codename" -v to="$suite" -v kind="$kind" '
				$1 == "deb" { $1 = kind; for (i = 2; i <= NF; i++) if ($i == from) { $i = to; print; next } }' \
				"$source" >"$private/sources/$suite.list" ;;
		esac
	done
	options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$private/sources"
		-o "Dir::State::lists=$private/lists" -o Dir::State::status=/dev/null -o "Dir::Cache=$private" -o Acquire::Check-Valid-Until=false)
	apt "${options[@]}" update
}

download() { # DIR PACKAGE... [OPTION...]
	local into="$1"
	shift
	(cd "$into" && apt download "$@" >/dev/null)
}

unpack_all() { # DEBS DIR: moved into place whole, so that a broken run leaves no half of it
	local deb tree
	tree="$(mktemp -d "$cache/tree.XXXXXX")"
	for deb in "$1"/*.deb; do dpkg -x "$deb" "$tree"; done
	rm -rf "$1" "$2"
	chmod 755 "$tree"
	mkdir -p "$(dirname "$2")"
	mv -T "$tree" "$2"
}

# take TREE PATH NAME: keeps one program of an unpacked tree
take() {
	mkdir -p "$bin"
	mv "$1/$2" "$bin/$3"
	rm -rf "$1"
}

if [ ${#packages[@]} -gt 0 ]; then install_packages "${packages[@]}"; fi

if [ ${#unpack[@]} -gt 0 ]; then
	mkdir -p "$cache"
	exec 9>"$cache/setup.lock"
	flock 9
fi
for part in "${unpack[@]}"; do
	tree="$cache/unpacked-$part"
	case "$part" in
	docker-compose)
		say "fetching docker-compose 1.29 (Debian 12), and the Python that it runs on"
		fetch "$cache/compose1" docker-compose python3-{docker,dockerpty,docopt,texttable,yaml,jsonschema,pyrsistent,attr} \
			python3-{requests,urllib3,chardet,certifi,idna,dotenv,websocket,distro,six,packaging,pkg-resources,distutils} \
			python3.11-minimal libpython3.11-{minimal,stdlib} libexpat1 zlib1g libffi8 libssl3 libyaml-0-2
		mkdir -p "$bin"
		cp "$root/scripts/docker-compose" "$bin/docker-compose"
		;;
	busybox)
		say "fetching busybox (static, for images)"
		fetch "$tree" busybox-static
		take "$tree" bin/busybox busybox
		;;
	docker-registry)
		say "fetching docker-registry"
		fetch "$tree" docker-registry
		take "$tree" usr/bin/docker-registry docker-registry
		;;
	redis)
		say "fetching redis (for its image)"
		fetch "$cache/redis" redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libssl3
		;;
	docker-compose-v2)
		say "fetching Compose v2 (Debian 13)"
		fetch_from trixie "$tree" docker-compose
		take "$tree" usr/libexec/docker/cli-plugins/docker-compose docker-compose-v2
		;;
	consul)
		say "fetching Consul (Debian 11)"
		fetch_from bullseye "$tree" consul
		take "$tree" usr/bin/consul consul
		;;
	engine-*)
		say "fetching the Docker of Debian ${part#engine-}"
		fetch_from "${part#engine-}" "$cache/$part" docker.io containerd
		;;
	pytest)
		say "fetching pytest"
		fetch "$cache/pytest" python3-pytest python3-pytest-timeout python3-attr python3-ddt python3-iniconfig \
			python3-packaging python3-pluggy
		;;
	docker-compose-tests)
		say "fetching docker-compose's own tests"
		fetch_source "$cache/docker-compose" docker-compose
		;;
	esac
done

# --- npm -------------------------------------------------------------------------------------------------------

# npm writes this file at the end of every install
if ! newer "$root/node_modules/.package-lock.json" "$root/package-lock.json"; then
	has npm || die "Node.js 20 with npm is needed"
	say "installing npm packages"
	# from the lock, without writing it. Not "npm ci", which refuses a lock that was made where the registry
	# lacks some other platform's optional package.
	(cd "$root" && npm install --no-save --no-audit --no-fund --loglevel=error)
	touch "$root/node_modules/.package-lock.json" # npm leaves it alone when nothing has changed
fi
