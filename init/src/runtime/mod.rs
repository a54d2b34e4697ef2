//! The shell around [`crate::supervise`]: one thread, one event queue, no wait for anybody.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | what a caller sets |
//! | [`event_loop`] | waits, hands what happened to the registry, obeys its orders |
//! | `reload` | tables read anew |
//! | [`queue`] | the event queue |
//! | [`obey`], [`reap`], [`said`], `requests` | orders carried out; ends of processes, words of services and requests taken in |
//! | [`clock`] | the two clocks; nobody else reads one |
//! | [`journal`] | init's own lines |
//! | [`identity`], [`users_record`] | whom a service runs as |
//! | [`accounts`] | users by name, and their groups |
//! | [`launch`], [`child`] | making a service's process: the clone, and what follows in the child |
//! | `own_folder` | folders of `writable` that are made for a service |
//! | [`fences`], `landlock` | what a service cannot see and do |
//! | `helper` | processes of init's own, for what may take long |
//! | [`tree`], [`kin`], [`cgroup`] | all processes of a service: whether any lives, and killing them |
//! | `cgroup_room` | where our own control group cannot be divided as it is |
//! | [`keeper`] | logd as a service |
//! | [`log_link`] | pipes of the services, handed to logd |
//! | [`notify_socket`], [`control_socket`] | what services and clients say |
//! | [`short_path`] | sockets whose path is too long for an address |
//! | [`conditions`] | whether clock, route, name service and mounts are there |
//! | `mounts` | disks that tables name |
//! | `console` | Enter on the machine's console |
//! | [`devices`] | devices that come, the watchdog, the machine's addresses |
//! | [`panic`] | a bug in init makes a fresh init |
//! | [`publish`] | state files |
//!
//! Invariants: PID 1 parses nothing from the network, reads nothing that a service prints, never waits but for its
//! queue, and survives every error: what fails is logged and tried again.

pub mod accounts;
pub mod cgroup;
mod cgroup_room;
pub mod child;
pub mod clock;
pub mod conditions;
mod console;
pub mod control_socket;
pub mod devices;
pub mod event_loop;
pub mod fences;
mod helper;
pub mod identity;
pub mod journal;
pub mod keeper;
pub mod kin;
mod landlock;
pub mod launch;
pub mod log_link;
mod mounts;
pub mod notify_socket;
pub mod obey;
pub mod options;
mod own_folder;
pub mod panic;
pub mod publish;
pub mod queue;
pub mod reap;
mod reload;
mod requests;
pub mod run_lock;
pub mod said;
pub mod short_path;
mod start;
pub mod tree;
pub mod users_record;
