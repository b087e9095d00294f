use super::*;

fn here() -> &'static Path {
    Path::new("/some/dir")
}

fn volume(text: &str) -> types::Mount {
    parse_volume(text, "", here()).unwrap_or_else(|failure| panic!("{text}: {failure}"))
}

fn mount(text: &str) -> types::Mount {
    parse_mount(text, here()).unwrap_or_else(|failure| panic!("{text}: {failure}"))
}

fn bind_of(mount: types::Mount) -> types::BindMount {
    let Some(Source::Bind(bind)) = mount.source else { panic!("no bind: {mount:?}") };
    bind
}

fn volume_of(mount: types::Mount) -> types::VolumeMount {
    let Some(Source::Volume(volume)) = mount.source else { panic!("no volume: {mount:?}") };
    volume
}

#[test]
fn a_path_is_a_bind_that_is_made_a_name_a_volume_and_a_target_alone_an_anonymous_one() {
    let bind = bind_of(volume("/host:/target"));
    assert!(bind.create_source && bind.source == "/host");
    assert_eq!(volume_of(volume("name:/target")).volume, "name");
    assert_eq!(volume_of(volume("/target")).volume, "");
    for (text, source) in [("./x:/t", "/some/dir/x"), (".:/t", "/some/dir"), ("../y/./z:/t", "/some/y/z")] {
        assert_eq!(bind_of(volume(text)).source, source, "{text}");
    }
}

#[test]
fn options_of_v_are_dockers() {
    assert!(volume("n:/t:ro").read_only);
    assert!(!volume("n:/t:rw,z").read_only);
    assert!(volume_of(volume("n:/t:nocopy,ro")).no_copy);
    for (option, relabel) in
        [("ro", Relabel::Unspecified), ("z", Relabel::Shared), ("ro,Z", Relabel::Private)]
    {
        assert_eq!(bind_of(volume(&format!("/h:/t:{option}"))).relabel(), relabel);
        assert_eq!(volume_of(volume(&format!("n:/t:{option}"))).relabel(), relabel);
    }
    assert_eq!(volume_of(mount("src=v,dst=/t,relabel=private")).relabel(), Relabel::Private);
    assert_eq!(bind_of(volume("/h:/t:ro,rslave")).propagation, i32::from(Propagation::Rslave));
    assert_eq!(volume_of(parse_volume("n:/t", "other", here()).unwrap()).driver, "other");
}

#[test]
fn what_is_wrong_with_v_is_said() {
    for (text, part) in [
        ("a:b:c:d", "more than two colons"),
        ("", "no absolute path"),
        ("rel", "no absolute path"),
        ("/foo:rw", "`rw` is no absolute path"),
        (":/t", "source before the first colon is empty"),
        ("n:/t:rw,whatever", "`whatever` is no option"),
        ("/h:/t:nocopy", "nocopy is for volumes"),
        ("n:/t:rslave", "rslave is for binds"),
        ("/h:/t:rslave,shared", "given twice"),
        ("a/b:/t", "neither a volume's name nor an absolute path"),
    ] {
        let failure = parse_volume(text, "", here()).expect_err(text).to_string();
        assert!(failure.contains(part), "{text}: {failure}");
    }
}

#[test]
fn keys_of_mount_are_dockers() {
    let bind = bind_of(mount("type=bind,src=/h,dst=/t,bind-propagation=rshared"));
    assert_eq!((bind.source.as_str(), bind.create_source), ("/h", false));
    assert_eq!(bind.propagation, i32::from(Propagation::Rshared));
    assert!(bind_of(mount("type=bind,source=./h,target=/t,bind-create-src")).create_source);
    for text in
        ["type=volume,src=v,dst=/t,readonly", "source=v,destination=/t,ro=true", "src=v,dst=/t,READONLY=1"]
    {
        let mount = mount(text);
        assert!(mount.read_only && mount.target == "/t", "{text}");
        assert_eq!(volume_of(mount).volume, "v", "{text}");
    }
    assert!(!mount("src=v,dst=/t,ro=false").read_only);
    let volume = volume_of(mount(
        "src=v,dst=/t,volume-nocopy,volume-subpath=a/b,volume-driver=d,volume-label=l=1,volume-label=m,\
         volume-opt=type=tmpfs,\"volume-opt=o=size=1m,mode=700\"",
    ));
    assert!(volume.no_copy && volume.sub_path == "a/b" && volume.driver == "d");
    assert_eq!((volume.labels["l"].as_str(), volume.labels["m"].as_str()), ("1", ""));
    assert_eq!(volume.driver_options["o"], "size=1m,mode=700");
    let Some(Source::Tmpfs(tmpfs)) = mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770").source else {
        panic!()
    };
    assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, Some(0o1770)));
    let Some(Source::Image(image)) = mount("type=image,src=busybox,dst=/t,image-subpath=etc").source else {
        panic!()
    };
    assert_eq!((image.image.as_str(), image.sub_path.as_str()), ("busybox", "etc"));
}

#[test]
fn recursion_of_a_bind_is_dockers() {
    let bind = |rest: &str| bind_of(mount(&format!("type=bind,src=/h,dst=/t,{rest}")));
    assert!(bind("bind-recursive=disabled").non_recursive);
    assert!(bind("bind-nonrecursive").non_recursive);
    assert_eq!(bind("ro,bind-recursive=writable").recursive_read_only, Some(false));
    assert_eq!(bind("ro,bind-recursive=readonly,bind-propagation=rprivate").recursive_read_only, Some(true));
    assert_eq!(bind("bind-recursive=enabled").recursive_read_only, None);
}

#[test]
fn what_is_wrong_with_mount_is_said() {
    for (text, part) in [
        ("", "must be key=value"),
        ("type=volume", "target is needed"),
        ("type=bind,dst=/t", "source is needed"),
        ("type=image,dst=/t", "source is needed"),
        ("type=zfs,dst=/t", "`zfs` is no type"),
        ("type=tmpfs,src=x,dst=/t", "a tmpfs has no source"),
        ("dst=/t,what=1", "`what` is no key"),
        ("dst=/t,readonly=maybe", "true or false, not `maybe`"),
        ("type=bind,src=/h,dst=/t,volume-nocopy", "volume-nocopy does not go with type=bind"),
        ("src=v,dst=/t,bind-propagation=rslave", "bind-propagation does not go with type=volume"),
        ("src=v,dst=/t,tmpfs-size=1m", "tmpfs-size does not go with type=volume"),
        ("type=tmpfs,dst=/t,tmpfs-size=big", "`big` is no size"),
        ("type=tmpfs,dst=/t,tmpfs-mode=9", "no octal mode"),
        ("type=bind,src=/h,dst=/t,bind-propagation=up", "`up` is no propagation"),
        ("type=bind,src=/h,dst=/t,bind-recursive=readonly", "needs readonly"),
        ("type=bind,src=/h,dst=/t,ro,bind-recursive=readonly", "needs bind-propagation=rprivate"),
        ("type=bind,src=/h,dst=/t,bind-recursive=maybe", "is no value of bind-recursive"),
        ("dst=/t,volume-subpath=a", "volume-subpath needs a source"),
        ("src=/h,dst=/t", "write type=bind"),
        ("src=v,\"dst=/t", "a quote is not closed"),
        ("src=v,dst=/t\"x\"", "a quote stands inside"),
        ("\"src=v\"x,dst=/t", "a comma must follow"),
    ] {
        let failure = parse_mount(text, here()).expect_err(text).to_string();
        assert!(failure.contains(part), "{text}: {failure}");
    }
}

#[test]
fn a_quoted_field_may_hold_commas_and_quotes() {
    assert_eq!(csv(r#"a=1,"b=2,3","c=""x""",d"#).unwrap(), ["a=1", "b=2,3", r#"c="x""#, "d"]);
}

/// What a mount came to, on one line: kind, source, target, and what else was said.
fn said(mount: &types::Mount) -> String {
    let (what, rest) = match mount.source.as_ref().expect("a source") {
        Source::Bind(bind) => {
            let mut rest = Vec::new();
            if bind.create_source {
                rest.push("made".to_owned());
            }
            if bind.non_recursive {
                rest.push("alone".to_owned());
            }
            if let Some(deep) = bind.recursive_read_only {
                rest.push(format!("deep={deep}"));
            }
            if bind.relabel != 0 {
                rest.push(format!("label={:?}", bind.relabel()).to_lowercase());
            }
            if bind.propagation != 0 {
                rest.push(format!("{:?}", bind.propagation()).to_lowercase());
            }
            (format!("bind {}", bind.source), rest)
        }
        Source::Volume(volume) => {
            let mut rest: Vec<String> =
                volume.labels.iter().map(|(key, value)| format!("l:{key}={value}")).collect();
            rest.extend(volume.driver_options.iter().map(|(key, value)| format!("o:{key}={value}")));
            rest.sort();
            rest.extend((!volume.driver.is_empty()).then(|| format!("d:{}", volume.driver)));
            rest.extend((!volume.sub_path.is_empty()).then(|| format!("part={}", volume.sub_path)));
            rest.extend(volume.no_copy.then(|| "nocopy".to_owned()));
            (format!("volume {}", volume.volume), rest)
        }
        Source::Tmpfs(tmpfs) => {
            let mut rest = Vec::new();
            rest.extend((tmpfs.size_bytes > 0).then(|| format!("size={}", tmpfs.size_bytes)));
            rest.extend((tmpfs.max_inodes > 0).then(|| format!("inodes={}", tmpfs.max_inodes)));
            rest.extend(tmpfs.mode.map(|mode| format!("mode={mode:o}")));
            for (is_set, word) in [(tmpfs.exec, "exec"), (tmpfs.suid, "suid"), (tmpfs.dev, "dev")] {
                rest.extend(is_set.then(|| word.to_owned()));
            }
            rest.extend((tmpfs.uid > 0).then(|| format!("uid={}", tmpfs.uid)));
            ("tmpfs".to_owned(), rest)
        }
        Source::Image(image) => (format!("image {}", image.image), vec![image.sub_path.clone()]),
    };
    let mut text = format!("{} -> {}", what.trim_end(), mount.target);
    for part in rest.iter().filter(|part| !part.is_empty()) {
        text.push(' ');
        text.push_str(part);
    }
    if mount.read_only {
        text.push_str(" ro");
    }
    text
}

/// Each row: a flag's value; what it means, or (behind `!`) what its refusal says. What Docker makes of the same value is
/// read off docker/cli `opts/mount.go` and moby `volume/mounts/linux_parser.go`; where it leaves the refusal to its daemon
/// so does this, and tests/e2e/volumes/test_grammar.py asks the engine.
const V_ROWS: &[(&str, &str)] = &[
    ("/home", "volume -> /home"),
    ("/with space", "volume -> /with space"),
    ("/home:/else", "bind /home -> /else made"),
    ("/rw:/ro", "bind /rw -> /ro made"),
    ("name:/t", "volume name -> /t"),
    ("name:/t:", "volume name -> /t"),
    ("name:/t:ro", "volume name -> /t ro"),
    ("/h:/t:rw", "bind /h -> /t made"),
    ("/h:/t:ro,z,shared", "bind /h -> /t made label=shared shared ro"),
    ("/h:/t:slave,Z,ro", "bind /h -> /t made label=private slave ro"),
    ("/h:/t:rprivate", "bind /h -> /t made rprivate"),
    ("/h:/t:private,cached", "bind /h -> /t made private"),
    ("/h:/t:rshared,delegated,rw", "bind /h -> /t made rshared"),
    (".:/t", "bind /some/dir -> /t made"),
    ("..:/t", "bind /some -> /t made"),
    (".hidden:/t", "bind /some/dir/.hidden -> /t made"),
    ("./a/../b:/t", "bind /some/dir/b -> /t made"),
    ("", "!no absolute path"),
    ("./", "!no absolute path"),
    ("../", "!no absolute path"),
    ("rel", "!no absolute path"),
    ("/:../", "!no absolute path"),
    ("/:path", "!no absolute path"),
    ("/tmp:tmp", "!no absolute path"),
    (":", "!no absolute path"),
    ("/tmp:", "!no absolute path"),
    ("tmp:", "!no absolute path"),
    (":test", "!no absolute path"),
    (":/test", "!source before the first colon is empty"),
    (":test:", "!source before the first colon is empty"),
    ("::", "!source before the first colon is empty"),
    (":::", "!more than two colons"),
    ("/tmp:::", "!more than two colons"),
    ("/a:/b:ro:ro", "!more than two colons"),
    ("/path:rw", "!options need a source"),
    ("/path:ro", "!options need a source"),
    ("path:ro", "!options need a source"),
    ("/path:shared", "!options need a source"),
    ("/p:/p:sw", "!`sw` is no option"),
    ("/p:/p:rwz", "!`rwz` is no option"),
    ("/p:/p:RO", "!`RO` is no option"),
    ("/p:/p:ro,", "!`` is no option"),
    ("/p:/p:,ro", "!`` is no option"),
    ("/p:/p:ro,ro", "!ro or rw is given twice"),
    ("/p:/p:ro,rw", "!ro or rw is given twice"),
    ("/p:/p:z,Z", "!z or Z is given twice"),
    ("/p:/p:cached,delegated", "!a consistency is given twice"),
    ("n:/p:nocopy,nocopy", "!nocopy is given twice"),
    ("/p:/p:ro,rshared,rslave", "!propagation is given twice"),
    ("name:/t:shared", "!shared is for binds"),
    ("name:/t:rprivate", "!rprivate is for binds"),
    ("/p:/p:nocopy", "!nocopy is for volumes"),
    ("local/name:/tmp:rw", "!neither a volume's name nor an absolute path"),
    ("~/x:/t", "!neither a volume's name nor an absolute path"),
];

const MOUNT_ROWS: &[(&str, &str)] = &[
    ("type=bind,source=/s,target=/t", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t", "bind /s -> /t"),
    ("type=BIND,SRC=/s,Destination=/t", "bind /s -> /t"),
    ("type=bind,source=.,target=/t", "bind /some/dir -> /t"),
    ("type=bind,source=./,target=/t", "bind /some/dir -> /t"),
    ("type=bind,source=..,target=/t", "bind /some -> /t"),
    ("type=bind,source=.git,target=/t", "bind /some/dir/.git -> /t"),
    ("type=bind,src=/s,dst=/t,readonly", "bind /s -> /t ro"),
    ("type=bind,src=/s,dst=/t,readonly=1", "bind /s -> /t ro"),
    ("type=bind,src=/s,dst=/t,ro=true", "bind /s -> /t ro"),
    ("type=bind,src=/s,dst=/t,ro=0", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t,ro=false", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t,consistency=cached", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t,bind-propagation=RSLAVE", "bind /s -> /t rslave"),
    ("type=bind,src=/s,dst=/t,bind-nonrecursive", "bind /s -> /t alone"),
    ("type=bind,src=/s,dst=/t,bind-nonrecursive=false", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t,bind-recursive=enabled", "bind /s -> /t"),
    ("type=bind,src=/s,dst=/t,bind-recursive=disabled", "bind /s -> /t alone"),
    ("type=bind,src=/s,dst=/t,bind-recursive=writable,readonly", "bind /s -> /t deep=false ro"),
    (
        "type=bind,src=/s,dst=/t,bind-recursive=readonly,readonly,bind-propagation=rprivate",
        "bind /s -> /t deep=true rprivate ro",
    ),
    ("type=bind,src=/s,dst=/t,bind-create-src=true", "bind /s -> /t made"),
    ("type=bind,src=/s,dst=/t,relabel=shared", "bind /s -> /t label=shared"),
    ("type=bind,src=/s,dst=/t,relabel=private", "bind /s -> /t label=private"),
    ("type=bind,src=/s,dst=/t,relabel=z", "!no relabel"),
    ("type=tmpfs,dst=/t,relabel=shared", "!relabel does not go with type=tmpfs"),
    ("target=/t,source=foo", "volume foo -> /t"),
    ("target=/t", "volume -> /t"),
    ("type=volume,dst=/t,src=v,volume-nocopy", "volume v -> /t nocopy"),
    ("type=volume,dst=/t,src=v,volume-nocopy=0", "volume v -> /t"),
    ("type=volume,dst=/t,volume-label=a=1,volume-label=b", "volume -> /t l:a=1 l:b="),
    ("type=volume,dst=/t,volume-label=a=b=c", "volume -> /t l:a=b=c"),
    ("type=volume,dst=/t,volume-driver=d,volume-opt=a=1,volume-opt=b", "volume -> /t o:a=1 o:b= d:d"),
    ("type=volume,src=v,dst=/t,volume-subpath=a/b", "volume v -> /t part=a/b"),
    ("type=volume,src=v,dst=/t,\"volume-opt=o=a,b\"", "volume v -> /t o:o=a,b"),
    ("type=tmpfs,dst=/t", "tmpfs -> /t"),
    ("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700", "tmpfs -> /t size=1048576 mode=700"),
    ("type=tmpfs,dst=/t,tmpfs-size=1MB,tmpfs-mode=700", "tmpfs -> /t size=1048576 mode=700"),
    ("type=tmpfs,dst=/t,ro", "tmpfs -> /t ro"),
    ("type=image,source=foo,target=/t,image-subpath=/bar", "image foo -> /t /bar"),
    ("type=tmpfs", "!target is needed"),
    ("type=bind", "!target is needed"),
    ("type=volume,source=/foo", "!target is needed"),
    ("type=,dst=/t", "!has no value"),
    ("type=volume,target=", "!has no value"),
    ("type=volume,src=,dst=/t", "!has no value"),
    ("type=volume,target=/foo,bogus=foo", "!`bogus` is no key"),
    ("type=volume, src=/foo,target=/foo", "!blank about its key"),
    ("type=volume,src =/foo,target=/foo", "!blank about its key"),
    ("type=volume,src= v,target=/foo", "!blank about its key"),
    ("type=volume,target=/foo,bogus", "!must be key=value"),
    ("type=volume,target=/foo,", "!must be key=value"),
    ("type=tmpfs,target=/foo,tmpfs-size=foo", "!`foo` is no size"),
    ("type=tmpfs,target=/foo,tmpfs-mode=foo", "!no octal mode"),
    ("type=volume,target=/foo,source=foo,bind-propagation=rprivate", "!does not go with type=volume"),
    ("type=bind,target=/foo,source=/foo,volume-nocopy=true", "!does not go with type=bind"),
    ("type=bind,target=/foo,source=/foo,tmpfs-mode=1", "!does not go with type=bind"),
    ("type=bind,target=/foo,source=/foo,image-subpath=a", "!does not go with type=bind"),
    ("type=bind,target=/foo,source=/foo,readonly=no", "!true or false"),
    ("type=bind,target=/foo,source=/foo,readonly=", "!has no value"),
    ("type=bind,target=/foo,source=/foo,bind-recursive=writable", "!needs readonly"),
    ("type=bind,target=/foo,source=/foo,bind-recursive=readonly,ro", "!needs bind-propagation=rprivate"),
    ("type=bind,target=/foo,source=/foo,bind-propagation=none", "!no propagation"),
    ("type=npipe,target=/foo,source=/foo", "!`npipe` is no type"),
    ("type=tmpfs,target=/foo,source=x", "!a tmpfs has no source"),
    ("type=volume,target=/foo,ro", "!anonymous volume cannot be readonly"),
    ("type=volume,target=/foo,volume-subpath=a", "!volume-subpath needs a source"),
    ("type=volume,target=/foo,source=/foo", "!write type=bind"),
];

const TMPFS_ROWS: &[(&str, &str)] = &[
    ("/run", "tmpfs -> /run"),
    ("/run:", "tmpfs -> /run"),
    ("/run:rw,noexec,nosuid,size=65536k", "tmpfs -> /run size=67108864"),
    (
        "/run:size=1g,mode=1770,uid=7,exec,dev,suid",
        "tmpfs -> /run size=1073741824 mode=1770 exec suid dev uid=7",
    ),
    ("/run:ro", "tmpfs -> /run ro"),
    ("/run:ro,rw", "tmpfs -> /run"),
    ("/run:exec,noexec", "tmpfs -> /run"),
    ("/run:defaults,async,relatime,atime,diratime,nodev", "tmpfs -> /run"),
    ("/run:size=big", "!`size=big` is not known"),
    ("/run:mode=9", "!`mode=9` is not known"),
    ("/run:privileged", "!`privileged` is not known"),
    ("/run:bind", "!`bind` is not known"),
    ("/run:nr_inodes=7", "tmpfs -> /run inodes=7"),
    ("/run:nr_inodes=4k,size=1m", "tmpfs -> /run size=1048576 inodes=4096"),
    ("/run:nr_blocks=2", "tmpfs -> /run size=8192"),
    ("/run:nr_inodes=0", "!`nr_inodes=0` is not known"),
    ("/run:nr_inodes=-1", "!`nr_inodes=-1` is not known"),
    ("/run:nr_inodes=many", "!`nr_inodes=many` is not known"),
    ("/run:nr_inodes", "!`nr_inodes` is not known"),
    ("/run:nr_blocks=9223372036854775807", "!`nr_blocks=9223372036854775807` is not known"),
    ("/run:mpol=interleave", "!`mpol=interleave` is not known"),
    ("/run:size", "!`size` is not known"),
];

#[test]
fn every_row_means_what_it_means_to_docker() {
    type Parse = fn(&str) -> Result<types::Mount, Failure>;
    type Rows = &'static [(&'static str, &'static str)];
    let flags: [(&str, Parse, Rows); 3] = [
        ("-v", |text| parse_volume(text, "", here()), V_ROWS),
        ("--mount", |text| parse_mount(text, here()), MOUNT_ROWS),
        ("--tmpfs", parse_tmpfs, TMPFS_ROWS),
    ];
    for (flag, parse, rows) in flags {
        for (text, meaning) in rows {
            match (parse(text), meaning.strip_prefix('!')) {
                (Ok(mount), None) => assert_eq!(said(&mount), *meaning, "{flag} {text}"),
                (Ok(mount), Some(_)) => panic!("{flag} {text} was taken: {mount:?}"),
                (Err(failure), Some(part)) => {
                    assert!(failure.to_string().contains(part), "{flag} {text}: {failure}");
                }
                (Err(failure), None) => panic!("{flag} {text}: {failure}"),
            }
        }
    }
}
