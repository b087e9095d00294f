use super::*;

fn here() -> &'static Path {
    Path::new("/work/dir")
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
    for (text, source) in [("./x:/t", "/work/dir/x"), (".:/t", "/work/dir"), ("../y/./z:/t", "/work/y/z")] {
        assert_eq!(bind_of(volume(text)).source, source, "{text}");
    }
}

#[test]
fn options_of_v_are_dockers() {
    assert!(volume("n:/t:ro").read_only);
    assert!(!volume("n:/t:rw,z").read_only);
    assert!(volume_of(volume("n:/t:nocopy,ro")).no_copy);
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
    assert_eq!(bind("ro,bind-recursive=readonly").recursive_read_only, Some(true));
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
