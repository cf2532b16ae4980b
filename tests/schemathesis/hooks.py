"""What schemathesis does not know of the agent: which names there are, and which answers never end.

Every second generated reference, name and command is replaced by one that exists, so that calls get past the look-up. Which one
depends on nothing but the generated value: a failure can be played again and made smaller.
"""

import json
import zlib

import schemathesis

# The first has ended, and nobody else gets its name.
CONTAINERS = ["done", "web", "db", "box", "0"]
NETWORKS = ["front", "back", "bridge", "host", "0"]
NAMESPACES = ["box", "other", "/run/netns/other"]
COMMANDS = [["true"], ["sleep", "1000"]]


def number(value, end):
    return zlib.crc32(repr(value).encode("utf-8", "surrogatepass")) % end


def known(value, names):
    """The value itself, or one of the names."""
    index = number(value, 2 * len(names))
    return names[index] if index < len(names) else value


def replace(values, key, names):
    if isinstance(values, dict) and key in values:
        values[key] = known(values[key], names)


@schemathesis.hook
def map_case(context, case):
    path = case.operation.path
    names = NETWORKS if path.startswith("/networks") else CONTAINERS
    replace(case.path_parameters, "reference", names)
    if case.method == "POST":
        replace(case.body, "Name", NETWORKS if names is NETWORKS else CONTAINERS[1:])
        replace(case.body, "Container", CONTAINERS)
        replace(case.body, "Network", NETWORKS)
        replace(case.body, "Netns", NAMESPACES)
    # Most of what a network may be told makes no sense together.
    if path == "/networks/create" and isinstance(case.body, dict) and number(case.body, 2):
        kept = ("Name", "Labels", "Internal", "EnableIPv6", "Attachable")
        case.body = {key: value for key, value in case.body.items() if key in kept}
    # What is run is the host's own: never by chance.
    if path.endswith("/run") and isinstance(case.body, dict):
        config = case.body.get("Config")
        config = config if isinstance(config, dict) else {}
        case.body["Config"] = {**config, "Cmd": COMMANDS[number(config, len(COMMANDS))], "WorkingDir": ""}
    if path.endswith("/exec") and isinstance(case.body, dict):
        case.body["Cmd"] = ["true"]
    # Events without an end go on for ever, as do logs that are followed; what is waited for has to end.
    query = dict(case.query or {})
    if path == "/events":
        query["until"] = "0s"
    elif path.endswith("/logs"):
        query.update(follow="0", stdout="1")
    elif path.endswith(("/stop", "/restart")):
        query["t"] = "0"
    elif path.endswith("/wait") and case.path_parameters.get("reference") in CONTAINERS:
        case.path_parameters["reference"] = CONTAINERS[0]
    case.query = query
    return case


@schemathesis.deserializer("application/x-ndjson")
def first_line(context, response):
    """Each line is an object of its own; no line at all is as good as one that says nothing."""
    lines = response.content.splitlines()
    return json.loads(lines[0]) if lines else {}
