//! A kubelet's side of the Container Runtime Interface (`runtime.v1`), as far as networks are concerned: pods come and go. Of the messages
//! in `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto` only those fields are here that are sent or looked at.

use std::path::Path;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::fail::OrFail;

/// A connection to a runtime.
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

/// A published port of a pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodPort {
    /// 0 is TCP, 1 is UDP, 2 is SCTP.
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    /// The port of the pod.
    #[prost(int32, tag = "2")]
    pub container_port: i32,
    /// The port of the host.
    #[prost(int32, tag = "3")]
    pub host_port: i32,
    /// The address of the host; all if it is empty.
    #[prost(string, tag = "4")]
    pub host_ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, repeated, tag = "5")]
    port_mappings: Vec<PodPort>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Nothing>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

/// What most calls are about, and what the first one answers: a pod by its id.
#[derive(Clone, PartialEq, Message)]
struct PodId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
}

#[derive(Clone, PartialEq, Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional_ips: Vec<PodIp>,
}

#[derive(Clone, PartialEq, Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

/// Something that a runtime says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct Condition {
    /// What it is about: `RuntimeReady` or `NetworkReady`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Whether it is so.
    #[prost(bool, tag = "2")]
    pub is_so: bool,
    /// Why not.
    #[prost(string, tag = "4")]
    pub message: String,
}

impl Cri {
    /// Connects to the runtime behind a socket.
    #[track_caller]
    pub(crate) fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.or_fail("start a client of the CRI");
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).or_fail("name the runtime");
        let channel = runtime.block_on(endpoint.connect()).or_fail("connect to the runtime");
        Self { runtime, channel }
    }

    /// One call: its answer, or the sentence in which the runtime refuses it.
    fn call<Q, A>(&self, method: &str, question: Q) -> Result<A, String>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}")).expect("a path");
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| error.to_string())?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = client.unary(tonic::Request::new(question), path, codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        })
    }

    /// Starts a pod with these ports: its id.
    pub fn run_pod(&self, name: &str, ports: &[PodPort]) -> Result<String, String> {
        let metadata = PodMetadata { name: name.into(), uid: format!("uid-{name}"), namespace: "default".into() };
        let config = PodConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            port_mappings: ports.to_vec(),
            linux: Some(Nothing {}),
        };
        let answer: PodId = self.call("RunPodSandbox", RunPod { config: Some(config) })?;
        Ok(answer.pod_sandbox_id)
    }

    /// The addresses of a pod.
    pub fn addresses(&self, pod: &str) -> Result<Vec<String>, String> {
        let answer: PodStatusAnswer = self.call("PodSandboxStatus", PodId { pod_sandbox_id: pod.into() })?;
        let network = answer.status.and_then(|status| status.network).unwrap_or_default();
        let all = [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|more| more.ip));
        Ok(all.filter(|ip| !ip.is_empty()).collect())
    }

    /// Stops a pod: its network goes.
    pub fn stop_pod(&self, pod: &str) -> Result<(), String> {
        self.call::<_, Nothing>("StopPodSandbox", PodId { pod_sandbox_id: pod.into() }).map(drop)
    }

    /// Removes a pod.
    pub fn remove_pod(&self, pod: &str) -> Result<(), String> {
        self.call::<_, Nothing>("RemovePodSandbox", PodId { pod_sandbox_id: pod.into() }).map(drop)
    }

    /// What the runtime says of itself.
    pub fn conditions(&self) -> Result<Vec<Condition>, String> {
        let answer: RuntimeStatusAnswer = self.call("Status", Nothing {})?;
        Ok(answer.status.unwrap_or_default().conditions)
    }
}
