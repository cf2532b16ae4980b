//! Docker's documented examples, read and written again: nothing may be lost or renamed.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::container::{ContainerInspect, ContainerSummary, PortMap, State};
use super::endpoint::EndpointSettings;
use super::network::{CreateRequest, Network};

#[track_caller]
fn survives<T: Serialize + DeserializeOwned>(example: Value) {
    let parsed: T = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), example);
}

#[test]
fn network() {
    survives::<Network>(json!({
        "Name": "my_network",
        "Id": "7d86d31b1478e7cca9ebed7e73aa0fdeec46c5ca29497431d3007d2d9e15ed99",
        "Created": "2016-10-19T04:33:30.360899459Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": {"foo": "bar"},
            "Config": [{
                "Subnet": "172.20.0.0/16",
                "IPRange": "172.20.10.0/24",
                "Gateway": "172.20.10.11",
                "AuxiliaryAddresses": {"router": "172.20.0.5"}
            }]
        },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": {
            "19a4d5d687db25203351ed79d478946f861258f018fe384f229f2efa4b23513c": {
                "Name": "test",
                "EndpointID": "628cadb8bcb92de107b2a1e516cbffe463e321f548feb37697cce00ad694f21a",
                "MacAddress": "02:42:ac:13:00:02",
                "IPv4Address": "172.19.0.2/16",
                "IPv6Address": ""
            }
        },
        "Options": {"com.docker.network.bridge.enable_icc": "true"},
        "Labels": {"com.example.some-label": "some-value"}
    }));
}

#[test]
fn network_without_containers() {
    let network: Network = serde_json::from_value(json!({
        "Name": "none", "Id": "e086", "Created": "2016-10-19T04:33:30Z", "Scope": "local", "Driver": "null",
        "EnableIPv4": false, "EnableIPv6": false, "Internal": false, "Attachable": false, "Ingress": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": null}, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Options": null, "Labels": null
    }))
    .unwrap();
    let written = serde_json::to_value(network).unwrap();
    assert_eq!(written["IPAM"], json!({"Driver": "default", "Options": null, "Config": []}));
    assert_eq!((&written["Options"], &written["Labels"]), (&json!({}), &json!({})));
    assert!(written.get("Containers").is_none());
}

#[test]
fn network_create() {
    survives::<CreateRequest>(json!({
        "Name": "my_network",
        "Driver": "bridge",
        "Internal": true,
        "Attachable": true,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "172.20.0.0/16"}]},
        "EnableIPv4": true,
        "EnableIPv6": true,
        "Options": {"com.docker.network.driver.mtu": "1500"},
        "Labels": {"com.example.some-label": "some-value"}
    }));
}

#[test]
fn endpoint() {
    survives::<EndpointSettings>(json!({
        "IPAMConfig": {
            "IPv4Address": "172.20.30.33",
            "IPv6Address": "2001:db8:abcd::3033",
            "LinkLocalIPs": ["169.254.34.68", "fe80::3468"]
        },
        "Links": ["container_1", "container_2"],
        "MacAddress": "02:42:ac:11:00:04",
        "Aliases": ["server_x", "server_y"],
        "DriverOpts": {"com.example.some-label": "some-value"},
        "GwPriority": 10,
        "NetworkID": "08754567f1f40222263eab4102e1c733ae697e8e354aa9cd6e18d7402835292a",
        "EndpointID": "b88f5b905aabf2893f3cbc4ee42d1ea7980bbc0a92e2c8922b1e1795298afb0b",
        "Gateway": "172.17.0.1",
        "IPAddress": "172.17.0.4",
        "IPPrefixLen": 16,
        "IPv6Gateway": "2001:db8:2::100",
        "GlobalIPv6Address": "2001:db8::5689",
        "GlobalIPv6PrefixLen": 64,
        "DNSNames": ["foobar", "server_x", "server_y", "my.ctr"]
    }));
}

#[test]
fn ports() {
    survives::<PortMap>(json!({
        "443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4443"}],
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "0.0.0.0", "HostPort": "8080"}],
        "2377/tcp": null
    }));
}

#[test]
fn container_in_a_list() {
    survives::<ContainerSummary>(json!({
        "Id": "aa86eacfb3b3ed4cd362c1e88fc89a53908ad05fb3a4103bca3f9b28292d14bf",
        "Names": ["/funny_chatelet"],
        "Image": "",
        "ImageID": "",
        "Command": "/bin/bash",
        "Created": 1_739_811_096,
        "Ports": [
            {"PrivatePort": 8080, "PublicPort": 80, "Type": "tcp", "IP": "0.0.0.0"},
            {"PrivatePort": 9, "Type": "udp"}
        ],
        "Labels": {"com.example.vendor": "Acme"},
        "State": "running",
        "Status": "Up 4 days",
        "HostConfig": {"NetworkMode": "mynetwork"},
        "NetworkSettings": {"Networks": {}},
        "Mounts": []
    }));
}

#[test]
fn container() {
    survives::<ContainerInspect>(json!({
        "Id": "aa86eacfb3b3ed4cd362c1e88fc89a53908ad05fb3a4103bca3f9b28292d14bf",
        "Created": "2025-02-17T17:43:39.64001363Z",
        "Path": "/bin/sh",
        "Args": ["-c", "exit 9"],
        "State": {
            "Status": "exited", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": 0, "ExitCode": 9, "Error": "",
            "StartedAt": "2020-01-06T09:06:59.461876391Z", "FinishedAt": "2020-01-06T09:07:59.461876391Z"
        },
        "Image": "",
        "ResolvConfPath": "/run/c/resolv.conf",
        "HostnamePath": "/run/c/hostname",
        "HostsPath": "/run/c/hosts",
        "LogPath": "/run/c/log",
        "Name": "/funny_chatelet",
        "RestartCount": 0,
        "Platform": "linux",
        "HostConfig": {
            "NetworkMode": "mynetwork",
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "AutoRemove": false,
            "Dns": ["192.0.2.53"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.org"],
            "ExtraHosts": ["gate:host-gateway"]
        },
        "Mounts": [],
        "Config": {
            "Hostname": "439f4e91bd1d", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin"], "Cmd": ["/bin/sh", "-c", "exit 9"], "Image": "",
            "WorkingDir": "/public/", "Labels": {}
        },
        "NetworkSettings": {
            "SandboxID": "9d12daf2c33f5959c8bf90aa513e4f65b561738661003029ec84830cd503a0c3",
            "SandboxKey": "/var/run/docker/netns/8ab54b426c38",
            "Ports": {},
            "Networks": {}
        }
    }));
}

#[test]
fn what_never_happened_is_year_one() {
    let state: State = serde_json::from_value(json!({"StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": ""})).unwrap();
    assert_eq!((state.started_at, state.finished_at), (None, None));
    let written = serde_json::to_value(state).unwrap();
    assert_eq!(written["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(written["FinishedAt"], "0001-01-01T00:00:00Z");
}
