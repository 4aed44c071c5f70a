# shellcheck shell=bash
# Completion of sys-pxe for bash. The names of releases and channels are those
# in the state folder, for those who may read it.

# _sys_pxe_names FOLDER CURRENT: the names below a folder that begin like that
_sys_pxe_names() {
    local path name
    for path in "$1"/*; do
        name=${path##*/}
        # whatever else lies there must not reach the command line
        if [[ $name =~ ^[a-z0-9][a-z0-9.-]*$ && $name == "$2"* ]]; then
            COMPREPLY+=("$name")
        fi
    done
}

# _sys_pxe_words CURRENT WORD...: the words that begin like that
_sys_pxe_words() {
    local word
    for word in "${@:2}"; do
        [[ $word != "$1"* ]] || COMPREPLY+=("$word")
    done
}

# _sys_pxe_paths CURRENT OPTION: files (-f) or folders (-d)
_sys_pxe_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$2" -- "$1")
}

# _sys_pxe_value OPTION CURRENT: what may follow an option that takes a value;
# "state" is its caller's
_sys_pxe_value() {
    case $1 in
    --site) _sys_pxe_paths "$2" -f ;;
    --state | --from) _sys_pxe_paths "$2" -d ;;
    --release) _sys_pxe_names "$state/releases" "$2" ;;
    esac
}

_sys_pxe() {
    local current=${COMP_WORDS[COMP_CWORD]} option='' state=/var/lib/sys-pxe
    local -a words=() wanted=()
    local word
    COMPREPLY=()
    [[ $current != = ]] || current=''
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word != = ]] || continue
        if [[ $option ]]; then
            [[ $option != --state ]] || state=$word
            option=''
            continue
        fi
        case $word in
        --state | --site | --transport | --from | --valid-days | \
            --compression | --http-port | --from-seen | --profile | --ram | --release) option=$word ;;
        -*) ;;
        *) words+=("$word") ;;
        esac
    done
    if [[ $option ]]; then
        _sys_pxe_value "$option" "$current"
        return
    fi

    case "${words[*]:0:2}" in
    '') wanted=(key release channel client site media plan status doctor) ;;
    key) wanted=(create show) ;;
    release) wanted=(build push list show prune) ;;
    channel) wanted=(list set rollback) ;;
    client) wanted=(list add show render) ;;
    site) wanted=(check push) ;;
    media) wanted=(build) ;;
    esac
    if [[ $current == -* ]]; then
        case "${words[*]:0:2}" in
        '') wanted=(--state --site --transport --quiet --debug) ;;
        'release build') wanted=(--from --valid-days --compression) ;;
        'release list') wanted=(--json --remote) ;;
        'client render') wanted=(--json --http-port) ;;
        'key create') wanted=(--secure-boot) ;;
        'client add') wanted=(--from-seen --profile) ;;
        'media build') wanted=(--profile --release) ;;
        plan*) wanted=(--json --ram --release) ;;
        status) wanted=(--json --idle) ;;
        'key show' | 'release show' | 'channel list' | 'client list' | \
            'client show' | 'site check' | doctor) wanted=(--json) ;;
        *) wanted=() ;;
        esac
        wanted+=(--help)
    fi
    _sys_pxe_words "$current" "${wanted[@]}"
    [[ $current != -* ]] || return 0

    case "${words[*]:0:2} ${#words[@]}" in
    'release push 2' | 'release show 2' | 'channel set 3' | \
        'channel rollback 3') _sys_pxe_names "$state/releases" "$current" ;;
    'channel set 2' | 'channel rollback 2')
        _sys_pxe_names "$state/channels" "$current"
        ;;
    esac
}

complete -F _sys_pxe sys-pxe
