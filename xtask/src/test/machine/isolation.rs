//! What a service cannot do, on a whole machine: where all fences are up, and memory and tasks have limits.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Steps;
use super::lab::{Lab, text};
use crate::process;
use crate::vm::guest::{Ending, Guest};

/// How long the console may take to say something.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the machine may take to go down.
const END_LIMIT: Duration = Duration::from_secs(120);

/// Services that try what they must not, and one of root's that looks at them from outside.
pub(super) const CONFIG: &str = r#"
hostname = "fences"
emergency-shell = true

[[mount]]
source = "LABEL=stick"
target = "/mnt/stick"

[[service]]
name = "owner"
command = ["/gokrazy/sh", "-c", "umask 0; echo mine > $HOME/secret && echo kept; exec /gokrazy/busybox sleep 100000"]

[[service]]
name = "thief"
wait-for = ["service:owner"]
command = ["/gokrazy/sh", "-c", '''
try() { what=$1; shift; if "$@" > /dev/null 2>&1; then echo "BAD $what"; else echo "refused $what"; fi; }
# BusyBox's date tells of its failure and succeeds.
clock() { ! date -s 2001-01-01 2>&1 | grep -q permitted; }
sleep 2
try home cat /perm/home/owner/secret
try perm touch /perm/x
try etc touch /etc/x
try clock clock
try mount mount -t tmpfs none /mnt
try init kill -TERM 1
try reboot reboot -f
try stick ls /mnt/stick
module=$(find /lib/modules -name '*.ko*' | head -n 1)
echo "module $module: $(insmod $module 2>&1)"
echo "fences $(grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\t\n' ' ')"
touch $HOME/own && touch /tmp/own && echo own
echo end
exec /gokrazy/busybox sleep 100000
''']

[[service]]
name = "hungry"
restart = "never"
memory-max = "24M"
command = ["/gokrazy/sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=64; echo BAD; exec /gokrazy/busybox sleep 100000"]

[[service]]
name = "bomb"
tasks-max = 20
command = ["/gokrazy/sh", "-c", "bomb() { bomb | bomb; }; bomb & exec /gokrazy/busybox sleep 100000"]

[[service]]
name = "watcher"
user = "root"
command = ["/gokrazy/sh", "-c", '''
touch /mnt/stick/x 2>/dev/null && echo BAD
cd /sys/fs/cgroup/gokrazy-*
while :; do echo "events $(grep max bomb/pids.events) now $(cat bomb/pids.current)"; sleep 3; done
''']

[[service]]
name = "boxed"
user = "root"
command = ["/gokrazy/sh", "-c", '''
# A line that begins with two brackets would end this table.
cat > /tmp/boxed.toml <<END
$(echo "[[service]]")
name = "hungry"
user = "root"
restart = "never"
memory-max = "24M"
command = ["/gokrazy/sh", "-c", "dd if=/dev/zero of=/tmp/y bs=1M count=64; exec /gokrazy/busybox sleep 100000"]
END
mkdir /sys/fs/cgroup/box /tmp/box
# As in a container: the first process of its namespace, and alone in its group.
unshare -m -p -f sh -c "mount -t proc none /proc
echo 0 > /sys/fs/cgroup/box/cgroup.procs
exec /gokrazy/init --no-boot --services /tmp/boxed.toml --run-dir /tmp/box" &
while ! grep exit=.*memory /tmp/box/service/hungry; do sleep 1; done
exec /gokrazy/busybox sleep 100000
''']

[[service]]
name = "saver"
user = "root"
wait-for = ["mount:/mnt/stick"]
command = ["/gokrazy/sh", "-c", "echo x > /mnt/stick/x && echo saved; exec /gokrazy/busybox sleep 100000"]
"#;

/// What the kernel says of a service's fences (proc_pid_status(5)): no capability, no new privileges, a filter.
const FENCES: &str =
    "fences CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2";

pub(super) fn services_are_fenced_in(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    thief(lab, &mut guest, steps)?;
    limits(lab, &mut guest, steps)?;
    stick(lab, &mut guest, steps)?;
    shell(lab, &mut guest, steps)?;
    guest.monitor("system_powerdown")?;
    let ending = guest.wait_for_end(END_LIMIT)?;
    ensure!(
        ending == Ending::PowerOff,
        "the power button ended it by {ending:?}"
    );
    let lines = guest.console().lines();
    let told = |line: &String| line.contains("the power button was pressed");
    ensure!(
        lines.iter().any(told),
        "the console does not tell of the button"
    );
    steps.passed("the power button powers it off");
    Ok(())
}

fn thief(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let log = lab.until_logged(guest, "thief", "end")?;
    for what in [
        "home", "perm", "etc", "clock", "mount", "init", "reboot", "stick",
    ] {
        ensure!(
            log.contains(&format!("refused {what}")),
            "thief was not refused `{what}`:\n{log}"
        );
    }
    let module = log.lines().find(|line| line.contains("module "));
    let module = module.unwrap_or_default();
    ensure!(
        module.contains("Operation not permitted"),
        "thief loaded a module: {module}"
    );
    ensure!(
        log.contains("own\n") && !log.contains("BAD"),
        "thief's log:\n{log}"
    );
    // Most of what it tried is refused by more than one fence, so each is asked for by itself.
    ensure!(log.contains(FENCES), "thief's fences:\n{log}");
    let thief = lab.service("thief")?;
    let unfenced = thief.get("unfenced").cloned().unwrap_or_default();
    ensure!(unfenced.is_null(), "this kernel lacks a fence: {unfenced}");
    steps.passed("it reads nobody's home, changes nothing, loads nothing, and all fences are up");
    Ok(())
}

fn limits(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let hungry = lab.service_where(guest, "hungry", "hungry is stopped", |hungry| {
        text(hungry, "last_exit") == "out of memory"
    })?;
    ensure!(text(&hungry, "state") == "stopped", "hungry is {hungry}");
    steps.passed("one that exceeds its memory ends with that reason");
    let log = lab.until_logged(guest, "watcher", "events max ")?;
    ensure!(!log.contains("BAD"), "root wrote underneath an absent disk");
    let log = lab.until(guest, PATIENCE, "the bomb meets its limit", || {
        Some(lab.log_of("watcher")).filter(|log| log.lines().any(met_the_limit))
    })?;
    let most = log.lines().filter_map(tasks).max().unwrap_or_default();
    ensure!((1..=20).contains(&most), "the bomb had {most} tasks");
    let bomb = lab.service("bomb")?;
    ensure!(text(&bomb, "state") == "running", "the bomb is {bomb}");
    steps.passed("a fork bomb stays in its limit, and everybody else goes on");
    lab.until_logged(guest, "boxed", "out of memory")?;
    steps.passed("an init that is alone in a group, as in a container, sets limits too");
    Ok(())
}

fn met_the_limit(line: &str) -> bool {
    line.contains("events max ") && !line.contains("events max 0 ")
}

/// The number at a line's end.
fn tasks(line: &str) -> Option<u32> {
    line.split_once(" now ")?.1.trim().parse().ok()
}

fn stick(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let path = lab.scratch("stick.img");
    let file = File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
    file.set_len(32 << 20).context("make a stick of 32 MiB")?;
    let mut format = Command::new("mkfs.ext4");
    process::capture(format.args(["-q", "-L", "stick"]).arg(&path))?;
    let waits = lab.service("saver")?;
    ensure!(
        text(&waits, "state") == "waiting",
        "without its disk, saver is {waits}"
    );
    let drive = format!(
        "drive_add 0 if=none,id=stick,format=raw,file={}",
        path.display()
    );
    guest.monitor(&drive)?;
    guest.monitor("device_add usb-storage,drive=stick,id=stick")?;
    lab.until_logged(guest, "saver", "saved")?;
    steps.passed("a stick that is plugged in is mounted, and who waits for it starts");
    guest.monitor("device_del stick")?;
    guest.console().wait_for("is gone", PATIENCE)?;
    steps.passed("one that is pulled out is told");
    Ok(())
}

fn shell(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    guest.type_in("\n")?;
    guest.console().wait_for("runs as root", PATIENCE)?;
    guest.type_in("echo shell-$((6*7))-$(id -u)\n")?;
    guest.console().wait_for("shell-42-0", PATIENCE)?;
    steps.passed("Enter on the console opens the shell that the image was built with");
    guest.type_in(
        "grep -q GOKRAZY_DISK=/dev/vda /proc/1/environ && grep -q '^/dev/vda4 /perm ' /proc/mounts && \
         echo disk-$((6*7))\n",
    )?;
    guest.console().wait_for("disk-42", PATIENCE)?;
    steps.passed("stage 2 is told which disk was booted from, and takes /perm from there");
    no_cable(lab, guest, steps)?;
    guest.type_in("exit\n")?;
    let ended = "the shell on the console has ended";
    guest.console().wait_for(ended, PATIENCE).map(drop)
}

/// The page as somebody sees it who is inside, while its cable is out.
fn no_cable(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let page = format!("http://gokrazy:{}@127.0.0.1/", lab.password());
    let plug = |up: bool| lab.ask_monitor("set_link", &json!({ "name": "card0", "up": up }));
    for (up, judge) in [(false, ""), (true, "! ")] {
        plug(up)?;
        // The number is computed there, so that what is typed is not taken for what is said.
        guest.type_in(&format!(
            "until wget -q -O /tmp/page {page} && {judge}grep -q 'eth0: no cable' /tmp/page; do sleep 1; done\n\
             echo {up}-$((6*7))\n"
        ))?;
        guest.console().wait_for(&format!("{up}-42"), PATIENCE)?;
    }
    steps.passed("the page tells that its cable is out, until it is back");
    Ok(())
}
