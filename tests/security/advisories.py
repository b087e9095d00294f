"""Every advisory with the test that attacks a running engine by it, and the fence whose absence lets it succeed.

`test_advisories.py` keeps the names true; `python -m tests.security.without_fences` runs each attack against a build
that lacks its fence. Cases (Z01 and so on) are those of tests/README.md.
"""

from dataclasses import dataclass
from typing import Final

_ATTACKS: Final = "tests/security/attacks"
_RACES: Final = "tests/security/races/test_races.py"
_CONTAINERS: Final = "tests/e2e/containers"
_IMAGES: Final = "tests/e2e/images"
_BUILDS: Final = "tests/e2e/builds"


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        names: advisories and cases.
        what: what is tried, and what it must not do.
        test: the pytest id.
        fence: what `sys::weakened` or tests/security/weakened_fluytd.py leaves out; empty: `unweakened` says why.
            Where a second fence stands behind the first, both, with a comma.
        unweakened: why no build is weakened for it.
        held: with two fences, the pytest id of what holds while only the first is missing.
    """

    names: tuple[str, ...]
    what: str
    test: str
    fence: str = ""
    unweakened: str = ""
    held: str = ""


_PARSER: Final = "what is read is refused as it is read; there is no second path that would take it"
_ABSENT: Final = "the engine has no such step that could be made unsafe"

ATTACKS: Final[tuple[Attack, ...]] = (
    Attack(
        ("Z01", "umoci#27", "tar-rs#156"),
        "a name of a layer climbs above the root",
        f"{_IMAGES}/test_load_hostile.py::test_a_layer_that_breaks_a_rule_is_refused[z01 above the root]",
        "layer-names",
    ),
    Attack(
        ("Z01", "CVE-2026-33056", "moby#39292"),
        "entries and hard links below a link of the layer that leads to the host",
        f"{_ATTACKS}/test_layers.py::test_z01_links_and_names_of_a_layer_lead_nowhere[directory]",
        "layer-links,archive-threads",
        held=f"{_ATTACKS}/test_layers.py::test_z01_nothing_beside_a_layer_is_changed_whatever_becomes_of_it[directory]",
    ),
    Attack(
        ("Z02",),
        "whiteouts named `.wh..` and `.wh...`, which would delete the parent",
        f"{_IMAGES}/test_load_hostile.py::test_a_layer_that_breaks_a_rule_is_refused[z02 dot dot]",
        "layer-names",
    ),
    Attack(
        ("Z03", "CVE-2018-15664", "CVE-2019-10152"),
        "a copy whose entries lead through a link to the host",
        f"{_CONTAINERS}/test_copy_hostile.py::test_z03_entries_that_lead_out_are_refused[running]",
        "copies,archive-threads",
        held=f"{_CONTAINERS}/test_copy_hostile.py::test_z03_nothing_outside_is_changed_whatever_becomes_of_a_copy[running]",
    ),
    Attack(
        ("Z03", "CVE-2018-15664"),
        "a directory changes places with a link while it is copied out",
        f"{_RACES}::test_copies_out[outside]",
        "copies",
    ),
    Attack(
        ("Z03", "CVE-2018-15664"),
        "a directory changes places with a link while it is copied into",
        f"{_RACES}::test_copies_in[outside]",
        "copies",
    ),
    Attack(
        ("Z04", "CVE-2024-21626"),
        "a working directory by a link of /proc",
        f"{_CONTAINERS}/test_confinement.py::test_z04_a_working_directory_by_a_link_of_proc_starts_nothing[/proc/self/cwd]",
        "working-directory",
    ),
    Attack(
        ("Z04", "CVE-2024-21626"),
        "a descriptor of the host that process 1 inherits",
        f"{_CONTAINERS}/test_confinement.py::test_z04_process_one_has_no_descriptor_but_its_three",
        "descriptors",
    ),
    Attack(
        ("Z05", "CVE-2021-30465", "CVE-2024-45310"),
        "the target of a mount below a link of a volume to the host",
        f"{_CONTAINERS}/test_confinement.py::test_z05_a_mount_below_a_link_to_the_host_is_made_inside",
        "mount-targets",
    ),
    Attack(
        ("CVE-2024-23651",),
        "the part of a volume that is mounted is a link to the host",
        "tests/e2e/volumes/test_mounts.py::test_sub_paths_stay_beneath_the_volume",
        "sub-paths",
    ),
    Attack(
        ("CVE-2024-23651", "CVE-2021-30465"),
        "the same, exchanged while containers start",
        f"{_RACES}::test_starts_with_a_part_of_a_volume[outside]",
        "sub-paths",
    ),
    Attack(
        ("Z06", "CVE-2022-23648"),
        "an image's VOLUME is a link to the host's /etc",
        "tests/e2e/volumes/test_mounts.py::test_z06_copying_into_a_volume_reads_inside_the_image",
        "mount-targets",
    ),
    Attack(
        ("Z07", "CVE-2024-9675"),
        "the id of a build's cache is a path",
        f"{_ATTACKS}/test_builds.py::test_z07_the_id_of_a_cache_is_no_path",
        "cache-ids",
    ),
    Attack(
        ("Z08", "CVE-2024-1753", "CVE-2024-11218"),
        "the source of a build's mount is a link to the host's root",
        f"{_ATTACKS}/test_builds.py::test_z08_the_source_of_a_mount_is_that_of_its_stage",
        unweakened="links are followed by our own code in a tree whose files are reached by descriptor alone: "
        + _ABSENT,
    ),
    Attack(
        ("Z09", "CVE-2024-23652"),
        "a step puts a link in the place of its mount",
        f"{_ATTACKS}/test_builds.py::test_z09_what_a_step_puts_in_the_place_of_a_mount_is_left_alone",
        unweakened=f"places of mounts are left out of the layer, never removed: {_ABSENT}",
    ),
    Attack(
        ("Z10", "CVE-2022-0811"),
        "a kernel parameter of the host",
        f"{_CONTAINERS}/test_settings.py::test_z10_a_kernel_parameter_of_the_host_is_refused[kernel.hostname-x-0]",
        "kernel-parameters",
    ),
    Attack(
        ("Z11", "CVE-2019-5736"),
        "the supervisor's program is written to by way of a process that runs it",
        f"{_CONTAINERS}/test_security.py"
        "::test_z11_the_supervisors_program_cannot_be_written_by_way_of_a_process_that_runs_it",
        "supervisor-program",
    ),
    Attack(
        ("Z12", "CVE-2020-15257"),
        "an abstract socket of the engine in the host's network",
        f"{_CONTAINERS}/test_security.py::test_z12_with_the_hosts_network_no_abstract_socket_of_the_engine_is_there",
        "socket-files",
    ),
    Attack(
        ("Z13", "CVE-2025-31133"),
        "masked files of /proc are read, with a false /dev/null over the real one",
        f"{_CONTAINERS}/test_confinement.py::test_z13_a_bind_over_dev_with_a_false_null_leaves_masked_paths_masked",
        "masks",
    ),
    Attack(
        ("Z13",),
        "a kernel setting is written",
        f"{_CONTAINERS}/test_security.py::test_z13_kernel_settings_cannot_be_written[/proc/sys/kernel/hostname]",
        "read-only-paths",
    ),
    Attack(
        ("Z14",),
        "attributes of a layer steer the overlay",
        f"{_ATTACKS}/test_layers.py::test_z14_attributes_of_a_layer_do_not_steer_the_overlay[directory]",
        "layer-attributes",
    ),
    Attack(
        ("CVE-2026-41579", "CVE-2026-47766"),
        "/dev of the image is a link to the host",
        f"{_ATTACKS}/test_places.py::test_a_place_of_the_engines_that_is_a_link_touches_nothing_outside[dev]",
        "mount-targets",
    ),
    Attack(
        ("CVE-2019-19921", "CVE-2025-52881"),
        "/proc of the image is a link, so that masks and labels are written elsewhere",
        f"{_ATTACKS}/test_places.py::test_proc_and_sys_that_are_links_start_nothing[proc]",
        "mount-targets",
    ),
    Attack(
        ("CVE-2025-52881",),
        "a volume lies over /proc, so that what is written there goes elsewhere",
        "tests/e2e/volumes/test_mounts.py::test_what_confines_a_container_cannot_be_covered",
        unweakened="refused before anything starts; rust_core/mount tests the masks' own check of the file system",
    ),
    Attack(
        ("CVE-2025-52565",),
        "/dev/console of the image is a link",
        f"{_ATTACKS}/test_places.py::test_a_console_that_is_a_link_is_not_followed",
        "masks",
    ),
    Attack(
        ("CVE-2022-24769", "CVE-2022-27649", "CVE-2022-27651"),
        "capabilities beyond those asked for, or inherited",
        f"{_CONTAINERS}/test_confinement.py"
        "::test_t08_capabilities_are_the_default_ones_less_the_dropped_with_the_added[add0-drop0-0000000000000000]",
        "capabilities",
    ),
    Attack(
        ("CVE-2022-2989", "CVE-2022-2990", "CVE-2022-36109"),
        "further groups of the user are missing or the host's",
        f"{_CONTAINERS}/test_users.py::test_t07_the_process_has_its_group_and_the_further_ones",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2024-9676", "CVE-2025-4437", "CVE-2026-47262"),
        "/etc/passwd of the image is a pipe, a device, endless or a link",
        f"{_CONTAINERS}/test_users.py::test_t15_a_hostile_user_database_neither_hangs_nor_reads_the_host",
        unweakened=_PARSER,
    ),
    Attack(
        ("kernel attack surface",),
        "a system call that the filter denies",
        f"{_CONTAINERS}/test_confinement.py::test_a_denied_system_call_is_refused_by_the_filter_alone",
        "seccomp",
    ),
    Attack(
        ("set-user-id programs",),
        "a program gains rights although none may be gained",
        f"{_CONTAINERS}/test_confinement.py::test_no_new_privileges_bars_set_user_id_programs",
        "no-new-privileges",
    ),
    Attack(
        ("CVE-2021-21334",),
        "one container gets the environment of another",
        f"{_CONTAINERS}/test_runtime.py::test_t13_fifty_at_once_see_their_own_environment_only",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2014-9356",),
        "a build's COPY leads out of its context",
        "tests/e2e/builds/test_copy.py::test_b16_nothing_outside_the_context_is_ever_copied",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2021-41190", "GHSA-mc8v-mgrf-8f4m"),
        "a document that is manifest and index at once",
        f"{_IMAGES}/test_pull_documents.py::test_r01_a_document_that_is_manifest_and_index_is_refused",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2014-8179",),
        "a manifest of other bytes than its digest",
        f"{_IMAGES}/test_pull_documents.py::test_r03_a_manifest_by_digest_must_have_that_digest",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2024-3727",),
        "a digest that is a path",
        f"{_IMAGES}/test_pull_documents.py::test_r04_a_malformed_digest_is_refused_before_any_request",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2020-15157",),
        "a layer's URL asks for the registry's credentials",
        f"{_IMAGES}/test_foreign_layers.py::test_r13_a_layer_that_no_registry_has_comes_from_its_url",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2025-62518", "GHSA-3pv8-6f4r-ffg2", "RUSTSEC-2026-0112", "RUSTSEC-2026-0113", "CVE-2025-58183"),
        "archives that lie about sizes, and maps of holes without end",
        f"{_CONTAINERS}/test_copy_hostile.py::test_archives_that_lie_are_refused_by_name",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2016-9962",),
        "a process that joins a container is looked at before it executes",
        f"{_ATTACKS}/test_places.py::test_a_process_on_its_way_in_cannot_be_looked_at",
        "joining",
    ),
    Attack(
        ("CVE-2019-16884",),
        "a mount of the image or the caller lies over /proc",
        f"{_ATTACKS}/test_places.py::test_proc_and_sys_that_are_links_start_nothing[proc]",
        "mount-targets",
    ),
    Attack(
        ("CVE-2020-13401",),
        "a neighbour announces itself as the router",
        "tests/e2e/networks/test_networks.py"
        "::test_neighbours_cannot_teach_a_container_routes_and_low_ports_and_pings_are_for_all",
        "network-defaults",
    ),
    Attack(
        ("CVE-2024-29018",),
        "a container without a way out asks the host's name servers",
        "tests/e2e/networks/test_names.py"
        "::test_n06_everything_else_is_asked_of_the_hosts_servers_which_only_the_host_reaches",
        unweakened="the resolver is given no server to ask: " + _ABSENT,
    ),
    Attack(
        ("CVE-2026-53488", "CVE-2026-53492"),
        "labels of an image ask for devices, mounts and rights",
        f"{_ATTACKS}/test_images.py::test_labels_of_an_image_are_words_and_nothing_more",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2026-57231",),
        "an image names variables of the host without a value",
        f"{_ATTACKS}/test_images.py::test_variables_without_a_value_take_none_of_the_hosts",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2026-55686",),
        "the working directory of an image is below a link to the host",
        f"{_ATTACKS}/test_images.py::test_a_working_directory_below_a_link_is_made_inside",
        unweakened=f"it is made by a process that has the container's root alone in sight: {_ABSENT}",
    ),
    Attack(
        ("CVE-2026-41567",),
        "a program of the container unpacks what is copied into it",
        f"{_ATTACKS}/test_images.py::test_no_program_of_a_container_unpacks_what_is_copied_into_it",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2026-42306",),
        "a place below a volume changes with a link while files are copied there",
        f"{_RACES}::test_copies_with_a_mount_below_a_volume[outside-True]",
        "copies",
    ),
    Attack(
        ("CVE-2024-24557",),
        "an image passes for a step of the build's cache",
        f"{_ATTACKS}/test_images.py::test_the_cache_knows_from_which_image_and_with_which_settings_a_step_came",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2024-9407",),
        "a mount of a build's step asks for propagation",
        f"{_ATTACKS}/test_images.py::test_a_mount_of_a_step_takes_no_propagation",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2026-33747", "CVE-2024-23650"),
        "a Dockerfile has an image executed that speaks to the builder",
        f"{_ATTACKS}/test_images.py::test_no_front_end_of_an_image_is_executed",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2024-23653",),
        "a step is privileged though nobody gave that",
        f"{_BUILDS}/test_entitlements.py"
        "::test_an_insecure_step_is_refused_unless_the_engine_permits_it_and_the_build_is_given_it",
        unweakened="it is refused before anything runs, and the same test sees it run where it was given",
    ),
    Attack(
        ("CVE-2026-33748",),
        "the folder of a repository is a link out of it",
        f"{_BUILDS}/test_sources.py::test_a_folder_of_a_repository_leads_nowhere_else",
        unweakened=f"the tree of a repository has its links followed by our own code: {_ABSENT}",
    ),
    Attack(
        ("CVE-2024-5154", "CVE-2024-9341"),
        "what the engine makes in /etc lies behind a link of the image",
        f"{_ATTACKS}/test_places.py::test_a_place_of_the_engines_that_is_a_link_touches_nothing_outside[etc]",
        "mount-targets",
    ),
    Attack(
        ("CVE-2024-40635",),
        "the number of a user is too large and comes round to root",
        f"{_CONTAINERS}/test_users.py::test_t06_a_user_that_cannot_be_had_starts_nothing[4294967296]",
        unweakened=_PARSER,
    ),
    Attack(
        ("CVE-2025-47291",),
        "a container with users of its own is outside of the group of its limits",
        f"{_CONTAINERS}/test_user_namespaces.py::test_limits_hold_whoever_its_users_are[own]",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2025-23266", "CVE-2024-0132"),
        "a device's specification brings hooks that run on the host",
        f"{_CONTAINERS}/test_devices.py::TestCdi::test_what_cannot_be_given_is_told_with_the_file_and_the_rule",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2026-31431",),
        "a socket of the kernel's ciphers, by which pages of read-only files could be written",
        "tests/security/audit/test_audit.py::test_no_socket_of_the_kernels_ciphers_or_of_virtual_machines_can_be_made",
        "seccomp",
    ),
    Attack(
        ("CVE-2025-9074", "CVE-2024-25621"),
        "the engine's API by the network, its directories by others of the host",
        f"{_ATTACKS}/test_places.py::test_the_engine_listens_to_files_alone_and_only_its_group_opens_them",
        unweakened=_ABSENT,
    ),
    Attack(
        ("CVE-2024-41110", "CVE-2026-34040"),
        "a message without a body, or with too long a one, gets a reader to change things",
        "tests/contract/test_tcp.py::test_no_message_gets_a_caller_past_what_it_may",
        unweakened="who may call what is decided by the RPC's name alone: " + _ABSENT,
    ),
    Attack(
        ("CVE-2024-32473",),
        "an interface of a network without IPv6 has an address of it",
        "tests/e2e/networks/test_networks.py"
        "::test_a_network_of_ones_own_begins_alike_whether_it_was_made_ahead_or_not[own]",
        "network-defaults",
    ),
    Attack(
        ("CVE-2025-54388", "CVE-2025-54410"),
        "a reload of firewalld opens what was closed",
        "tests/e2e/networks/test_firewalls.py"
        "::test_firewalld_leaves_published_ports_alone_and_a_zone_lets_containers_out",
        unweakened="our rules are in a table of our own, which firewalld does not touch: " + _ABSENT,
    ),
    Attack(
        ("CVE-2025-0495",),
        "secrets of a build in its cache, its log or its image",
        f"{_BUILDS}/test_run.py::test_b20_secrets_are_nowhere_but_in_the_step",
        unweakened=_ABSENT,
    ),
)
