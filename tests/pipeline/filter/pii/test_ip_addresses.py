"""IP addresses of every spelling are replaced; version and section numbers are not."""

from __future__ import annotations

import ipaddress
import random

import pyarrow as pa
import pytest

from model.masking.find_personal import Options
from pipeline.filter.pii.redact import redact
from tests.pipeline.filter.pii.marked import split_marked


def redact_one(text: str, *, only_public: bool = False) -> str:
    return redact(pa.array([text]), ["ip"], Options(only_public_ips=only_public)).texts[0].as_py()


VERSIONS = (
    "## [2.71.3.0] - 2025-03-02",
    "since 2.70.0.4, before 2.69.12.1 broke it",
    "Builds of the driver are numbered 27.0.104.33 and 8.19.11.41 below.",
    "The file bar-3.72.0.2.tar.gz, libbar.so.3.72.0.2, bar_3.72.0.2 and Version=5.0.0.81, Culture=neutral",
    "Chrome 88.0.71.120, Qt 6.14.3.210, Brave 88.14.71.92 and Mozilla/5.0 Firefox/91.77.102.3",
    "See section 4.71.2.3, paragraph 14.68.2.5, Section 91.121.78.65, § 91.121.78.65, object 1.3.6.1.4.1.318.7",
    "fixed the parsing of addresses in 2.84.1.0; upgrade from 2.4.1.0 to 2.5.0.1",
    "version 91.121.78.65, release 91.121.78.65, bar==91.121.78.65, >=91.121.78.65, v91.121.78.65, версия 91.121.78.65",
)
NOBODY = (
    "0.0.0.0 255.255.255.0 224.0.0.251 192.0.2.9 198.51.100.77 203.0.113.5 2001:db8:1::7 ff02::1 ::",
    "x[::1] x[1::2] x[2000::2] x[a, 2000::2] f(double[:, ::1] y) 12:34:56:78 10:20:30",
    "std::vector std::a1 abc::def dead::beef Fa::Ce1 2001:4860::/32 3000:1",
    "00:1b:63:84:45:e6 00:11:22:33:44:55:66:77 SHA1:da:39:a3:ee:5e:6b:4b:0d:32:55:bf:ef:95:60:18:90:af:d8:07:09",
    "999.184.216.34 93.184.216 93.184.216.34.5 93.184.216.345",
)


@pytest.mark.parametrize("text", [*VERSIONS, *NOBODY])
def test_numbers_that_are_no_address_are_kept(text: str) -> None:
    assert redact_one(text) == text


ADDRESSES = (
    "The server at {93.184.216.34} answers on port 80.",
    "{127.0.0.1} {10.1.2.3} {192.168.1.1} {172.16.5.4} {172.31.0.2} {169.254.10.20} {100.64.7.81}",
    "address {10.218.6.131}, hosts {1.1.1.1} and {1.0.0.1}, IP: {1.2.3.4}, ip address is {5.6.7.8}",
    "ping {8.8.8.8}; root@{1.2.3.4}; http://{1.2.3.4}/x; {8.8.8.8}:53; {11.7.3.0}/24; the client {4.3.2.1} connected",
    '{2.3.4.5} - - [10/Oct/2000:13:55:36 -0700] "GET /"',
    "{2a00:1450:4001:81b::200e} [{2a00:1450:4001:81b::200e}]:443 {2a01:4f8:c17:b8f::}/64",
    "server {9b13:8519:9b4c:7039:da31:c7ec:5e13:db30}:8080, logins came from {9.240.8.18}, requests by {16.63.0.105}",
    "http://[{::1}]:8080/, {::1} localhost, listen on {::1}",
    "[{fe80::1%eth0}]:443 {fe80::1%25en0} {fe80::202:b3ff:fe1e:8329%wlan0}/10 {FD00::1234:5678} {fd12::9}",
    "{d80:e4b5:79da:6cf6:71f3:51f7:9161:c319} {4F8A:C99E:DC86:FAF9:5988:5F63:375E:8A2A} {2a02::12:ab:9}",
    "{::ffff:192.168.1.10} {::ffff:93.184.216.34} {64:ff9b::93.184.216.34} {0:0:0:0:0:ffff:93.184.216.34}",
    "见{93.184.216.34}。 <b>{2a00:1450:4001:81b::200e}</b> ({2a00:1450:4001:81b::200e}).",
)


@pytest.mark.parametrize("marked", ADDRESSES)
def test_addresses_of_every_spelling_are_replaced(marked: str) -> None:
    text, expected = split_marked(marked, "<IP>")
    assert redact_one(text) == expected


def test_only_public_addresses() -> None:
    text = "93.184.216.34 127.0.0.1 10.1.2.3 192.168.1.1 fe80::202:b3ff:fe1e:8329 2a00:1450:4001:81b::200e"
    assert redact_one(text, only_public=True) == "<IP> 127.0.0.1 10.1.2.3 192.168.1.1 fe80::202:b3ff:fe1e:8329 <IP>"
    assert redact_one(text) == "<IP> <IP> <IP> <IP> <IP> <IP>"


def test_random_addresses_are_found_without_any_context() -> None:
    """Of IPv4 addresses, 1 in 45 looks like a version; with a word like "host" before them none is lost."""
    rng = random.Random(3)
    v4 = [str(ipaddress.IPv4Address(rng.randrange(1 << 24, 0xE0000000))) for _ in range(1_000)]
    v6 = [ipaddress.IPv6Address(rng.getrandbits(128)) for _ in range(500)]
    spelled = [rng.choice([str(each), each.exploded, str(each).upper()]) for each in v6 if each.packed[0] != 255]
    alone, cued = (redact(pa.array([form.format(each) for each in v4])) for form in ("and {} was", "host {} was"))
    assert sum(alone.counts.column("pii_ip").to_pylist()) > 0.965 * len(v4)
    assert set(cued.texts.to_pylist()) == {"host <IP> was"}
    assert set(redact(pa.array([f"and {each} was" for each in spelled])).texts.to_pylist()) == {"and <IP> was"}
