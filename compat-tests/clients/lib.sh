# shellcheck shell=bash
# What the build scripts share: fetching a client's source, at a fixed version, from the registry it is published in.
# Sourced by clients/NAME/build; compat-tests/src/clients/cache.rs runs those and says what is in their environment.

# cannot REASON: the client cannot be had here. It is skipped, for this reason (EX_TEMPFAIL of sysexits.h).
cannot() {
    echo "$*"
    exit 75
}

# want COMMAND...: what the build runs.
want() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || cannot "$command is missing: ./run-tests installs it"
    done
}

# debian_source NAME VERSION: Debian's source package with that upstream version, unpacked and patched as Debian builds it, in
# ./NAME.
debian_source() {
    want dpkg-source
    from_debian "$1" "$2" --download-only
    dpkg-source --no-check -x "$1"_*.dsc "$1"
}

# debian_upstream NAME VERSION: what Debian's source package of that version has from upstream, without Debian's patches, in
# ./NAME.
debian_upstream() {
    from_debian "$1" "$2" --tar-only
    mkdir "$1"
    tar -xf "$1"_*.orig.tar.* -C "$1" --strip-components=1
}

# from_debian NAME VERSION OPTION: fetches with `apt-get source OPTION`. The machine's own package sources are asked, with a
# state of our own, so that nothing on it changes.
from_debian() {
    local name=$1 version=$2 state=$PWD/apt found
    want apt-get apt-cache
    mkdir -p "$state/lists/partial" "$state/parts" "$state/archives/partial"
    if [ -f /etc/apt/sources.list ]; then
        sed -n 's/^deb\( \|\t\)/deb-src\1/p' /etc/apt/sources.list >"$state/sources.list"
    else
        : >"$state/sources.list"
    fi
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        # Debian's own only: another's archive has no source of it
        grep -q debian-archive-keyring "$file" || continue
        sed 's/^Types:.*/Types: deb-src/' "$file" >"$state/parts/${file##*/}"
    done
    local apt=(-qq -o "Dir::Etc::sourcelist=$state/sources.list" -o "Dir::Etc::sourceparts=$state/parts"
        -o "Dir::State::lists=$state/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o "Dir::Cache::archives=$state/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
    apt-get "${apt[@]}" update || cannot "the sources of Debian's packages cannot be fetched"
    found=$(apt-cache "${apt[@]}" showsrc --only-source "$name" | sed -n 's/^Version: //p' |
        sed -n "/^\([0-9]*:\)\{0,1\}${version//./\\.}-/p" | sort -V | tail -n 1)
    [ -n "$found" ] || cannot "Debian has no source of $name $version here"
    apt-get "${apt[@]}" source --download-only "$3" "$name=$found" || cannot "the source of $name $found cannot be fetched"
    rm -rf "$state"
}

# crate_source NAME VERSION: the crate's source, as published, in ./NAME.
crate_source() {
    local name=$1 version=$2
    want cargo
    mkdir -p fetch/src
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n[workspace]\n' \
        "$name" "$version" >fetch/Cargo.toml
    : >fetch/src/lib.rs
    (cd fetch && cargo vendor --quiet --versioned-dirs vendor >/dev/null) ||
        cannot "$name $version cannot be fetched from crates.io"
    mv "fetch/vendor/$name-$version" "$name"
    rm -rf fetch
}

# python_package NAME VERSION DIR: the package, as published, installed into DIR.
python_package() {
    want python3
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$3" "$1==$2" ||
        cannot "$1 $2 cannot be fetched from PyPI"
}
