//! Commands on networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coracle_api::network::{
    ConnectRequest, DisconnectRequest, EndpointSettings, Ipam, IpamPool, Network, NetworkCreateRequest,
};

use super::{App, Code, done, inspect, print, print_line, prune, say};
use crate::args::ListArgs;
use crate::args::network::{
    ConnectArgs, DisconnectArgs, NetworkCommand, NetworkCreateArgs, NetworkRemoveArgs,
};
use crate::error::{Error, Result};
use crate::render::listing::{Layout, Row, short_id};
use crate::resolve::network::ipam;
use crate::resolve::{Invalid, invalid, pairs};
use coracle_spec::full_text;

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

pub(super) async fn dispatch(app: &App, command: NetworkCommand) -> Code {
    match command {
        NetworkCommand::Ls(args) => list(app, args).await.map(done),
        NetworkCommand::Inspect(args) => inspect::of_kind(app, args, inspect::Kind::Network).await.map(done),
        NetworkCommand::Create(args) => create(app, args).await.map(done),
        NetworkCommand::Rm(args) => remove(app, args).await.map(done),
        NetworkCommand::Connect(args) => connect(app, args).await.map(done),
        NetworkCommand::Disconnect(args) => disconnect(app, args).await.map(done),
        NetworkCommand::Prune(args) => prune::networks(app, args).await.map(done),
    }
}

async fn list(app: &App, args: ListArgs) -> Result<()> {
    let filters = pairs::filters(&args.filter)?;
    let mut networks = app.client().await?.networks(&filters).await?;
    networks.sort_by(|left, right| left.name.cmp(&right.name));
    let rows: Vec<Row> = networks.iter().map(|network| row(network, !args.no_trunc)).collect();
    let format = if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    print(LAYOUT.render(format, rows)?)
}

fn row(network: &Network, short: bool) -> Row {
    let labels = network.labels.clone().unwrap_or_default();
    let created = network.created.replacen('T', " ", 1).replace('Z', " +0000 UTC");
    Row::default()
        .with("ID", if short { short_id(&network.id) } else { &network.id })
        .with("Name", network.name.as_str())
        .with("Driver", network.driver.as_str())
        .with("Scope", network.scope.as_str())
        .with("IPv4", network.enable_ipv4.unwrap_or(false).to_string())
        .with("IPv6", network.enable_ipv6.to_string())
        .with("Internal", network.internal.to_string())
        .with_labels(&labels)
        .with("CreatedAt", created)
}

async fn create(app: &App, args: NetworkCreateArgs) -> Result<()> {
    let request = NetworkCreateRequest {
        ipam: Some(Ipam {
            driver: args.ipam_driver.clone(),
            options: Some(pairs::map(&args.ipam_opt)),
            config: Some(pools(&args)?),
        }),
        name: args.name,
        driver: args.driver,
        enable_ipv4: args.ipv4,
        enable_ipv6: args.ipv6,
        internal: args.internal,
        attachable: args.attachable,
        options: Some(pairs::map(&args.opt)),
        labels: Some(pairs::map(&args.label)),
        ..NetworkCreateRequest::default()
    };
    print_line(app.client().await?.create_network(&request).await?.id)
}

/// One pool for each subnet, with the ranges, gateways and addresses that lie in it.
fn pools(args: &NetworkCreateArgs) -> Result<Vec<IpamPool>, Invalid> {
    let mut pools: Vec<(Subnet, IpamPool)> = Vec::new();
    for text in &args.subnet {
        let subnet = Subnet::parse(text)?;
        if pools.iter().any(|(other, _)| other.contains(subnet.address) || subnet.contains(other.address)) {
            return invalid("multiple overlapping subnet configuration is not supported");
        }
        pools.push((subnet, IpamPool { subnet: text.clone(), ..IpamPool::default() }));
    }
    for text in &args.ip_range {
        let pool = pool_of(&mut pools, Subnet::parse(text)?.address, "range", text)?;
        text.clone_into(&mut pool.ip_range);
    }
    for text in &args.gateway {
        let pool = pool_of(&mut pools, address(text)?, "gateway", text)?;
        text.clone_into(&mut pool.gateway);
    }
    for (name, text) in pairs::strict_map(&args.aux_address)? {
        let pool = pool_of(&mut pools, address(&text)?, "aux-address", &text)?;
        let addresses: &mut BTreeMap<_, _> = pool.auxiliary_addresses.get_or_insert_default();
        addresses.insert(name, text);
    }
    Ok(pools.into_iter().map(|(_, pool)| pool).collect())
}

fn pool_of<'a>(
    pools: &'a mut [(Subnet, IpamPool)],
    address: IpAddr,
    what: &str,
    text: &str,
) -> Result<&'a mut IpamPool, Invalid> {
    let found = pools.iter_mut().find(|(subnet, _)| subnet.contains(address));
    found.map(|(_, pool)| pool).ok_or_else(|| Invalid(format!("no matching subnet for {what} {text}")))
}

fn address(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid(format!("invalid IP address: {text}")))
}

#[derive(Debug, Clone, Copy)]
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest)?;
            Some(Self { address, prefix })
        });
        parsed.ok_or_else(|| Invalid(format!("invalid CIDR address: {text}")))
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

async fn remove(app: &App, args: NetworkRemoveArgs) -> Result<()> {
    let client = &app.client().await?;
    let mut failed = false;
    for name in &args.names {
        match client.remove_network(name).await {
            Ok(()) => print_line(name)?,
            Err(error) if args.force && error.is_not_found() => {}
            Err(error) => {
                say(full_text(&error));
                failed = true;
            }
        }
    }
    if failed { Err(Error::Reported) } else { Ok(()) }
}

async fn connect(app: &App, args: ConnectArgs) -> Result<()> {
    let given = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let mut endpoint = EndpointSettings { gw_priority: args.gw_priority, ..EndpointSettings::default() };
    ipam(&mut endpoint).ipv4_address = args.ip.unwrap_or_default();
    ipam(&mut endpoint).ipv6_address = args.ip6.unwrap_or_default();
    ipam(&mut endpoint).link_local_ips = given(args.link_local_ip);
    endpoint.aliases = given(args.alias);
    endpoint.links = given(args.link);
    endpoint.driver_opts = Some(pairs::strict_map(&args.driver_opt)?);
    let request = ConnectRequest { container: args.container, endpoint_config: Some(endpoint) };
    Ok(app.client().await?.connect_network(&args.network, &request).await?)
}

async fn disconnect(app: &App, args: DisconnectArgs) -> Result<()> {
    let request = DisconnectRequest { container: args.container, force: args.force };
    Ok(app.client().await?.disconnect_network(&args.network, &request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_belong_to_their_subnets() {
        let contains = |subnet: &str, text: &str| {
            Subnet::parse(subnet).expect(subnet).contains(text.parse().expect(text))
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && contains("1.2.3.4/32", "1.2.3.4"));
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "10.0.0.1"));
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129"] {
            assert!(Subnet::parse(text).is_err(), "{text}");
        }
    }
}
