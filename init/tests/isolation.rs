//! Fences around services, with real processes.

mod common;

use common::{Init, sh};

/// A service with a user of its own.
fn own(name: &str, script: &str, more: &str) -> String {
    sh(name, script, more).replace("user = 'root'\n", "")
}

#[test]
fn an_own_user_has_no_capabilities_and_gains_no_privileges() {
    let script = "id -u; grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status; exec sleep 1000";
    let init = Init::start(
        "caps",
        &(own("a", script, "") + &own("b", script, "capabilities = ['net-bind-service']")),
    );
    init.until_logged("a", "Seccomp:");
    init.until_logged("b", "Seccomp:");
    let (a, b) = (init.log("a"), init.log("b"));
    let id = |log: &[String]| log[0].parse::<u32>().unwrap();
    assert!(
        (10_000..=59_999).contains(&id(&a)) && id(&a) != id(&b),
        "{a:?} {b:?}"
    );
    let fields = |log: &[String]| {
        log[1..]
            .iter()
            .map(|line| line.split_whitespace().last().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let none = "0000000000000000";
    assert_eq!(fields(&a), [none, none, none, "1", "2"]);
    let bind = "0000000000000400";
    assert_eq!(fields(&b), [bind, bind, bind, "1", "2"]);
    assert_eq!(init.status("a")["uid"], id(&a));
}

/// They lead to the pipes of the log, which were root's.
#[test]
fn an_own_user_opens_its_output_by_name() {
    let script = "echo 1 > /dev/stdout; echo 2 > /dev/stderr; stat -Lc %u /dev/stderr; id -u; exec sleep 1000";
    let init = Init::start("by-name", &own("a", script, ""));
    init.until("four lines", || (init.log("a").len() >= 4).then_some(()));
    let log = init.log("a");
    let uid = init.status("a")["uid"].to_string();
    for (line, times) in [("1", 1), ("2", 1), (uid.as_str(), 2)] {
        let got = log.iter().filter(|heard| *heard == line).count();
        assert_eq!(got, times, "{line}: {log:?}");
    }
    // The next run's pipes are the same ones.
    init.ctl_ok(&["restart", "a"]);
    init.until("eight lines", || (init.log("a").len() >= 8).then_some(()));
}

/// A second init finds what the first one wrote down, also where that says something else than the name would.
#[test]
fn a_user_once_given_is_kept() {
    let init = Init::start("users", &own("a", "id -u; exec sleep 1000", ""));
    let record = init.folder.join("home/.users");
    let text = init.until("the record", || std::fs::read_to_string(&record).ok());
    let uid = init.until_state("a", "running")["uid"].clone();
    assert_eq!(text, format!("{uid} a\n"));
    let prepare = format!(
        "mkdir {0} && printf '12345 a\\nnonsense\\n' > {0}/.users",
        std::env::temp_dir()
            .join(format!("in-users-kept-{}/home", std::process::id()))
            .display()
    );
    let setup = common::Setup {
        prepare: &prepare,
        ..common::Setup::default()
    };
    let init = Init::start_with(
        "users-kept",
        &own("a", "id -u; exec sleep 1000", ""),
        &setup,
    );
    init.until_logged("a", "12345");
}

#[test]
fn limits_of_a_process_are_its_own() {
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; exec sleep 1000";
    let init = Init::start(
        "rlimits",
        &own("a", script, "open-files-max = 77\ncore-max = '64K'"),
    );
    init.until("three lines", || (init.log("a").len() == 3).then_some(()));
    let log = init.log("a");
    // The shell counts blocks of 512 or 1,024 bytes.
    assert!(
        log[..2] == ["77", "77"] && ["128", "64"].contains(&log[2].as_str()),
        "{log:?}"
    );
}

#[test]
fn a_view_of_its_own_is_read_only_but_for_home_and_named_places() {
    // The word after `||` is what is compared: it comes only where the program could not be touched.
    let script = "touch $HOME/x && echo home; touch $0 2>/dev/null || echo fenced; touch $PLACE/x && echo place; exec sleep 1000";
    let place = std::env::temp_dir().join(format!("in-place-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let more = format!(
        "read-only = true\nwritable = ['{0}', '/not/there']\nenv = {{ PLACE = '{0}' }}",
        place.display()
    );
    // As root, so that it is the view and not the user that refuses.
    let init = Init::start("view", &sh("a", &script.replace("$0", "/usr/in-x"), &more));
    init.until_logged("a", "place");
    assert_eq!(init.log("a"), ["home", "fenced", "place"]);
    assert!(init.status("a")["unfenced"].is_null());
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn a_private_tmp_is_seen_by_nobody_else() {
    let script = "touch /tmp/in-mine; ls /tmp; echo end; exec sleep 1000";
    let init = Init::start("tmp", &sh("a", script, "private-tmp = true"));
    init.until_logged("a", "end");
    assert_eq!(init.log("a"), ["in-mine", "end"]);
    assert!(!std::path::Path::new("/tmp/in-mine").exists());
}

/// What `POST /divert` does on a device, where `user = "auto"` has both fences.
#[test]
fn a_diverted_program_in_the_tmp_of_all_runs_behind_a_tmp_of_its_own() {
    let fences = "private-tmp = true\nread-only = true";
    let init = Init::start("divert-tmp", &own("a", "exec sleep 1000", fences));
    init.until_state("a", "running");
    let folder = std::path::PathBuf::from(format!("/tmp/in-upload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("new");
    let script =
        "#!/bin/sh\ntouch /tmp/in-mine && echo $0 $1; cat $0 | tail -n 1; exec sleep 1000\n";
    common::write(&program, script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    init.ctl_ok(&["divert", "a", program.to_str().unwrap(), "word"]);
    init.until_logged("a", "exec sleep 1000");
    assert_eq!(init.log("a")[0], format!("{} word", program.display()));
    let status = init.status("a");
    assert!(status["unfenced"].is_null(), "{status}");
    assert!(!std::path::Path::new("/tmp/in-mine").exists());
    std::fs::remove_dir_all(folder).unwrap();
    let _ = init.ctl(&["restart", "a", "--no-wait"]);
    init.until("the original again", || {
        let status = init.status("a");
        (status["diverted"].is_null() && status["state"] == "running").then_some(())
    });
}

#[test]
fn calls_that_no_service_needs_are_refused_even_to_root() {
    let script = "mount -t tmpfs none /mnt 2>&1 && echo mounted; echo end; exec sleep 1000";
    let init = Init::start(
        "seccomp",
        &(sh("a", script, "seccomp = true") + &sh("b", script, "private-tmp = true")),
    );
    init.until_logged("a", "end");
    init.until_logged("b", "end");
    assert!(!init.log("a").contains(&"mounted".to_owned()));
    assert!(
        init.log("b").contains(&"mounted".to_owned()),
        "without the fence it can: {:?}",
        init.log("b")
    );
}

/// Touches, cuts short, moves and removes as root, so that it is Landlock and not the user that refuses.
const WRITER: &str = "mkdir $HOME/d && echo x > $HOME/d/x && mv $HOME/d/x $HOME/y && echo home; \
    touch $PLACE/x && echo place; touch /tmp/in-landlock && rm /tmp/in-landlock && echo tmp; \
    touch $OTHER/new || echo made; (: > $OTHER/old) || echo cut; rm -f $OTHER/old || echo removed; \
    mv $OTHER/old $HOME/old || echo moved; cat $OTHER/old; : > /dev/null && echo end; exec sleep 1000";

#[test]
fn landlock_lets_a_service_write_only_where_it_is_told() {
    // Below a folder that is not `/tmp`, in which everybody may write.
    let setup = common::Setup {
        prepare: "mount -t tmpfs in-landlock /mnt && \
                  mkdir /mnt/place /mnt/other && echo kept > /mnt/other/old",
        ..common::Setup::default()
    };
    let keys = "landlock = true\nwritable = ['/mnt/place', '/not/there']\n\
                env = { PLACE = '/mnt/place', OTHER = '/mnt/other' }";
    let init = Init::start_with("landlock", &sh("a", WRITER, keys), &setup);
    init.until_logged("a", "end");
    let want = [
        "home", "place", "tmp", "made", "cut", "removed", "moved", "kept", "end",
    ];
    let heard = init.log("a");
    let got: Vec<&str> = heard
        .iter()
        .map(String::as_str)
        .filter(|line| !line.contains("denied") && !line.contains("nnot"))
        .collect();
    assert_eq!(got, want, "{heard:?}");
    assert!(init.status("a")["unfenced"].is_null());
}

/// On a kernel without Landlock, or with it switched off.
#[test]
fn a_fence_that_the_kernel_has_not_is_said_and_the_service_runs() {
    let setup = common::Setup {
        before: &[
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=landlock_create_ruleset",
            "-e",
            "inject=landlock_create_ruleset:error=EOPNOTSUPP",
        ],
        ..common::Setup::default()
    };
    let tables = own("a", "exec sleep 1000", "landlock = true")
        + &own("b", "exec sleep 1000", "landlock = false");
    let init = Init::start_with("no-landlock", &tables, &setup);
    let told = |name: &str| {
        let status = init.until_state(name, "running");
        status["unfenced"].as_str().unwrap_or_default().to_owned()
    };
    assert!(told("a").contains("landlock (Operation not supported") && told("b").is_empty());
    assert!(init.console().contains("a: runs without landlock"));
}

#[test]
fn what_the_machine_cannot_give_is_said_and_the_service_runs() {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        assert!(controllers.contains("pids"), "{controllers}");
        return;
    }
    // A limit of tasks would be the user's, if root's were not shared.
    let init = Init::start("unfenced", &sh("a", "exec sleep 1000", "tasks-max = 5"));
    init.until_state("a", "running");
    assert!(
        init.status("a")["unfenced"]
            .as_str()
            .unwrap()
            .contains("pids.max")
    );
}
