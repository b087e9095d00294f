//! `fluyt network`: create, ls, inspect, rm, connect, disconnect, prune.

use clap::{Args, Subcommand};
use serde_json::{json, Value};
use tonic::transport::Channel;

use crate::api::v1::network_service_client::NetworkServiceClient;
use crate::api::v1::types::NetworkAttachment;
use crate::api::v1::{
    ConnectContainerRequest, CreateNetworkRequest, DeleteNetworkRequest, DisconnectContainerRequest,
    GetNetworkRequest, ListNetworksRequest, Network, NetworkFilter, PruneNetworksRequest, Subnet,
};
use crate::clock;
use crate::confirm::confirm;
use crate::containers::each_present;
use crate::failure::Failure;
use crate::flag_values::pairs;
use crate::render;
use crate::template::{self, Column, Output};

/// `fluyt network`
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a network
    Create(CreateCommand),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListCommand),
    /// Show all about networks
    Inspect(InspectCommand),
    /// Delete networks
    #[command(visible_alias = "remove")]
    Rm(RemoveCommand),
    /// Attach a container to a network, a running one at once
    Connect(ConnectCommand),
    /// Detach a container from a network, a running one at once
    Disconnect(DisconnectCommand),
    /// Delete networks that no container uses
    Prune(PruneCommand),
}

/// `fluyt network create`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt network create front
  fluyt network create --subnet 10.20.0.0/16 --gateway 10.20.0.1 --label tier=back back
  fluyt network create --internal --ipv6 inner
  fluyt network create -d cni --opt conflist=cluster pods")]
pub struct CreateCommand {
    /// Driver: bridge or cni
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Option of the driver: isolation=false, masquerade=false; of cni conflist=NAME
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Range of addresses; one of each family
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Gateway of the range of its family; default: its first address
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Part of the range of its family that addresses are taken from
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// No way out of the host
    #[arg(long)]
    internal: bool,
    /// Also IPv6
    #[arg(long)]
    ipv6: bool,
    /// Maximum transmission unit in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    mtu: i32,
    /// Label, NAME or NAME=value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Name
    name: String,
}

/// `fluyt network ls`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt network ls\n  fluyt network ls -q --filter dangling=true")]
pub struct ListCommand {
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// id=, name=, label=, driver= or dangling=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output: table, json, or a template of Go such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Output,
}

/// `fluyt network inspect`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt network inspect front")]
pub struct InspectCommand {
    /// Output: table or json, both JSON, json one object a line; or a template of Go such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Output,
    /// Networks: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    networks: Vec<String>,
}

/// `fluyt network rm`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt network rm front back")]
pub struct RemoveCommand {
    /// No failure if one is not there
    #[arg(short, long)]
    force: bool,
    /// Networks: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    networks: Vec<String>,
}

/// `fluyt network connect`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt network connect --alias db --ip 10.20.0.5 back postgres")]
pub struct ConnectCommand {
    /// Further name on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// The attachment with the highest number gives the default route
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    gw_priority: i32,
    /// Network
    network: String,
    /// Container
    container: String,
}

/// `fluyt network disconnect`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt network disconnect back postgres")]
pub struct DisconnectCommand {
    /// As in Docker; it makes no difference, since nothing holds a disconnection back
    #[arg(short, long)]
    force: bool,
    /// Network
    network: String,
    /// Container
    container: String,
}

/// `fluyt network prune`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt network prune\n  fluyt network prune -f --filter label=tier=test")]
pub struct PruneCommand {
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// id=, name=, label= or driver=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// Runs `fluyt network`.
///
/// # Errors
/// What the engine answers, or a flag that makes no sense.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    let mut client = NetworkServiceClient::new(channel.clone());
    match command {
        Command::Create(command) => {
            let answer = client.create_network(request(command)?).await?.into_inner();
            render::line(answer.network.unwrap_or_default().id)?;
        }
        Command::Ls(command) => return list(client, command).await,
        Command::Inspect(command) => return inspect(channel, command).await,
        Command::Rm(command) => {
            let absent = command.force.then_some("NETWORK_NOT_FOUND");
            return each_present(command.networks, absent, |name| {
                let mut client = NetworkServiceClient::new(channel.clone());
                async move {
                    let request = DeleteNetworkRequest { network: name.clone(), ..Default::default() };
                    client.delete_network(request).await?;
                    Ok(name)
                }
            })
            .await;
        }
        Command::Connect(command) => {
            let attachment = NetworkAttachment {
                network: command.network,
                aliases: command.alias,
                ipv4_address: command.ip.unwrap_or_default(),
                ipv6_address: command.ip6.unwrap_or_default(),
                gateway_priority: command.gw_priority,
                ..Default::default()
            };
            let container = command.container;
            let request =
                ConnectContainerRequest { container, attachment: Some(attachment), ..Default::default() };
            client.connect_container(request).await?;
        }
        Command::Disconnect(DisconnectCommand { network, container, .. }) => {
            let request = DisconnectContainerRequest { container, network, ..Default::default() };
            client.disconnect_container(request).await?;
        }
        Command::Prune(command) => return prune(client, command).await,
    }
    Ok(0)
}

fn request(command: CreateCommand) -> Result<CreateNetworkRequest, Failure> {
    let mut subnets: Vec<Subnet> =
        command.subnet.iter().map(|cidr| Subnet { cidr: cidr.clone(), ..Default::default() }).collect();
    let mut add = |texts: &[String], flag: &str, set: fn(&mut Subnet, String)| {
        for text in texts {
            let is_ipv6 = text.contains(':');
            let Some(subnet) = subnets.iter_mut().find(|subnet| subnet.cidr.contains(':') == is_ipv6) else {
                return Err(Failure::usage(format!("{flag} {text} needs a --subnet of its family"), ""));
            };
            set(subnet, text.clone());
        }
        Ok(())
    };
    add(&command.gateway, "--gateway", |subnet, text| subnet.gateway = text)?;
    add(&command.ip_range, "--ip-range", |subnet, text| subnet.allocation_range = text)?;
    Ok(CreateNetworkRequest {
        name: command.name,
        driver: command.driver,
        driver_options: pairs(&command.options),
        subnets,
        internal: command.internal,
        enable_ipv6: command.ipv6,
        mtu: command.mtu,
        labels: pairs(&command.label),
        ..Default::default()
    })
}

async fn list(mut client: NetworkServiceClient<Channel>, command: ListCommand) -> Result<u8, Failure> {
    let filter = filter(&command.filter)?;
    let mut found: Vec<Network> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListNetworksRequest { page_token, filter: Some(filter.clone()), ..Default::default() };
        let page = client.list_networks(request).await?.into_inner();
        found.extend(page.networks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let id = |network: &Network| {
        if command.no_trunc {
            network.id.clone()
        } else {
            render::short_id(&network.id).to_owned()
        }
    };
    if command.format == Output::Json {
        render::json_lines(&found)?;
    } else if command.quiet {
        found.iter().try_for_each(|network| render::line(id(network)))?;
    } else if let Output::Template(template) = &command.format {
        let listed = |network: &Network| {
            let more = json!({"ID": id(network), "Labels": template::pairs(&network.labels)});
            template::with(names(network), more)
        };
        template.print(&COLUMNS, &found.iter().map(listed).collect::<Vec<_>>())?;
    } else {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|network| {
                let subnets: Vec<&str> = network.subnets.iter().map(|subnet| subnet.cidr.as_str()).collect();
                let scope = if network.is_internal { "internal" } else { "" };
                vec![
                    id(network),
                    network.name.clone(),
                    network.driver.clone(),
                    subnets.join(", "),
                    network.container_ids.len().to_string(),
                    scope.to_owned(),
                ]
            })
            .collect();
        render::line(render::table(
            &["NETWORK ID", "NAME", "DRIVER", "SUBNETS", "CONTAINERS", "SCOPE"],
            &rows,
        ))?;
    }
    Ok(0)
}

/// What stands above each column. Source: docker/cli `cli/command/network/formatter.go`.
const COLUMNS: [Column; 8] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

/// A network for templates: the API's message, and Docker's names.
fn names(network: &Network) -> Value {
    let subnets: Vec<Value> =
        network.subnets.iter().map(|one| json!({"Subnet": one.cidr, "Gateway": one.gateway})).collect();
    let names = json!({
        "Id": network.id, "Name": network.name, "Driver": network.driver, "Scope": "local",
        "IPv6": network.has_ipv6, "Internal": network.is_internal, "Labels": network.labels,
        "Options": network.driver_options, "IPAM": {"Config": subnets},
        "CreatedAt": network.create_time.as_ref().map_or_else(String::new, clock::point),
    });
    template::with(render::json(network), names)
}

async fn inspect(channel: Channel, command: InspectCommand) -> Result<u8, Failure> {
    let mut exit_code = 0;
    for name in command.networks {
        let mut client = NetworkServiceClient::new(channel.clone());
        match client.get_network(GetNetworkRequest { network: name }).await {
            Ok(answer) => {
                let network = answer.into_inner().network.unwrap_or_default();
                command.format.show(&network, names)?;
            }
            Err(status) => {
                eprintln!("{}", Failure::from(status));
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}

async fn prune(mut client: NetworkServiceClient<Channel>, command: PruneCommand) -> Result<u8, Failure> {
    let filter = Some(filter(&command.filter)?);
    if !command.force
        && !command.dry_run
        && !confirm("This will delete all networks that no container uses.")?
    {
        return Ok(1);
    }
    let request = PruneNetworksRequest { filter, dry_run: command.dry_run, ..Default::default() };
    let answer = client.prune_networks(request).await?.into_inner();
    answer.deleted.iter().try_for_each(render::line)?;
    Ok(0)
}

fn filter(texts: &[String]) -> Result<NetworkFilter, Failure> {
    let mut filter = NetworkFilter::default();
    for text in texts {
        match text.split_once('=') {
            Some(("id", value)) => filter.ids.push(value.to_owned()),
            Some(("name", value)) => filter.names.push(value.to_owned()),
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            Some(("driver", value)) => filter.drivers.push(value.to_owned()),
            Some(("dangling", "true" | "1")) => filter.is_dangling = Some(true),
            Some(("dangling", "false" | "0")) => filter.is_dangling = Some(false),
            _ => {
                return Err(Failure::usage(
                    format!("--filter {text} is not known"),
                    "write id=, name=, label=, driver=, dangling=true or dangling=false",
                ))
            }
        }
    }
    Ok(filter)
}
