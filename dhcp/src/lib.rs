//! A DHCP client for all wired interfaces of a small system.
//!
//! One thread waits in `poll(2)`; pure machines decide, thin shells obey.
//! No module marked *pure* names a socket, a file or a clock.
//!
//! | module | what |
//! |---|---|
//! | [`config`], [`fixed`] | flags, and settings fixed by file, checked; pure |
//! | [`machine`], [`exchange`], [`conflict`], [`link_local`] | RFC 2131, its retransmissions, RFC 5227, RFC 3927; pure |
//! | [`message`], [`terms`], [`names`] | bytes to checked values; pure |
//! | [`router_dns`], [`solicit`] | what routers say of name servers (RFC 8106), and when they are asked; pure |
//! | [`machine6`] | DHCPv6 (RFC 8415); pure |
//! | [`frame`], [`filter`] | packets around them, and which of those wake us; pure |
//! | [`plan`], [`resolver`], [`links`] | the kernel state and the text of resolv.conf that follow; pure |
//! | [`patience`] | when floods are left alone; pure |
//! | [`moment`] | time and chance as arguments; pure |
//! | [`daemon`], [`client`], [`six`], [`vlans`], [`world`] | the loop, one interface, VLANs, what interfaces share |
//! | [`claim`] | who manages an interface |
//! | [`wire`], [`wire6`], [`apply`], [`publish`], [`store`], [`hooks`], [`log`], [`system`] | sockets, netlink, files, commands, clocks |

pub mod apply;
pub mod claim;
pub mod client;
pub mod config;
pub mod conflict;
pub mod daemon;
pub mod exchange;
pub mod filter;
pub mod fixed;
pub mod frame;
pub mod hooks;
pub mod link_local;
pub mod links;
pub mod log;
pub mod machine;
pub mod machine6;
pub mod message;
pub mod moment;
pub mod names;
pub mod pace;
pub mod patience;
pub mod plan;
pub mod publish;
pub mod resolver;
pub mod router_dns;
pub mod six;
pub mod solicit;
pub mod store;
pub mod system;
pub mod terms;
pub mod vlans;
pub mod wire;
pub mod wire6;
pub mod world;
