"""Ways out of a jail: each snippet calls `out()` if it gets through.

{canary} is a file that everybody may write, {port} a TCP and UDP port that listens, {pid} the process outside, {socket} and
{abstract} UNIX sockets that listen.
"""

from __future__ import annotations

PRELUDE = "def out(): print('OUT' + 'SIDE')\n"
OUTSIDE = "OUTSIDE"
_C = """import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    return libc.syscall(number, *[ctypes.c_long(each) if isinstance(each, int) else each for each in arguments])
def check(result):
    if result >= 0: out()
"""
FILES = {
    "read a file": "open('{canary}').read(); out()",
    "read /etc/passwd": "open('/etc/passwd').read(); out()",
    "read /etc/shadow": "open('/etc/shadow').read(); out()",
    "list the root": "import os; os.listdir('/'); out()",
    "climb out of the standard library": "import os; open(os.path.dirname(os.__file__) + '/..' * 9 + '/etc/passwd'); out()",
    "write a file": "open('/tmp/minigpt_outside', 'w'); out()",
    "overwrite a file": "open('{canary}', 'w'); out()",
    "truncate a file": "import os; os.truncate('{canary}', 0); out()",
    "delete a file": "import os; os.unlink('{canary}'); out()",
    "rename a file": "import os; os.rename('{canary}', '{canary}2'); out()",
    "follow a symlink of its own": "import os; os.symlink('/etc/passwd', '/tmp/minigpt_outside'); out()",
    "hard link": "import os; os.link('{canary}', '/tmp/minigpt_outside'); out()",
    "change a mode": "import os; os.chmod('{canary}', 0o777); out()",
    "change an owner": "import os; os.chown('{canary}', 65534, 65534); out()",
    "change times": "import os; os.utime('{canary}', (1, 1)); out()",
    "change attributes": "import os; os.setxattr('{canary}', 'user.x', b'1'); out()",
    "make a device": "import os; os.mknod('/tmp/minigpt_outside', 0o20666, os.makedev(1, 5)); out()",
    "write the standard library": "import os; open(os.__file__, 'a'); out()",
    "shared memory files": "import os; os.open('/dev/shm/minigpt_outside', os.O_CREAT | os.O_RDWR); out()",
    "a file by its handle": _C + "check(syscall(304, 0, ctypes.create_string_buffer(136), 0))",
}
PROC = {
    "own environment": "open('/proc/self/environ').read(); out()",
    "the service's environment": "open('/proc/{pid}/environ').read(); out()",
    "the service's memory": "open('/proc/{pid}/mem', 'r+b'); out()",
    "the service's root": "import os; os.listdir('/proc/{pid}/root/'); out()",
    "inherited files": "import os\nfor fd in range(3, 256):\n  try: os.fstat(fd)\n  except OSError: continue\n  out()",
    "secrets in the environment": "import os\nif any('MINIGPT' in name for name in os.environ): out()",
    "kernel settings": "open('/proc/sys/kernel/core_pattern', 'w'); out()",
}
NETWORK = {
    "TCP": "import socket; socket.create_connection(('127.0.0.1', {port}), 1); out()",
    "TCP over IPv6": "import socket; socket.socket(socket.AF_INET6).connect(('::1', {port})); out()",
    "MPTCP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', {port})); out()",
    "UDP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})); out()",
    "listen": "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); out()",
    "raw sockets": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); out()",
    "packet sockets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); out()",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); out()",
    "vsock": "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); out()",
    "kernel crypto": "import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET); out()",
    "a UNIX socket": "import socket; socket.socket(socket.AF_UNIX).connect('{socket}'); out()",
    "an abstract UNIX socket": "import socket; socket.socket(socket.AF_UNIX).connect('\\0{abstract}'); out()",
    "a datagram from a socket pair": "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "a.sendto(b'x', '{socket}d'); out()",
}
PROCESSES = {
    "fork": "import os\nif os.fork() >= 0: out()",
    "a fork bomb": "import os\nwhile True:\n  os.fork()\n  out()",
    "a shell": "import os; os.execv('/bin/sh', ['sh', '-c', 'echo OUTSI''DE'])",
    "a subprocess": "import subprocess; subprocess.run(['/bin/true']); out()",
    "clone3": _C + "check(syscall(435, ctypes.create_string_buffer(88), 88))",
    "a thread bomb": "import threading, time\nfor n in range(5000):\n"
    "  threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\nout()",
    "signals to the service": "import os; os.kill({pid}, 0); out()",
    "signals to everybody": "import os; os.kill(-1, 0); out()",
    "signals by pidfd": "import os; os.pidfd_open({pid}); out()",
    "ptrace": _C + "check(syscall(101, 16, {pid}, 0, 0))",
    "read another process": _C + "check(syscall(310, {pid}, ctypes.create_string_buffer(16), 1, "
    "ctypes.create_string_buffer(16), 1, 0))",
    "slow the service down": "import os; os.setpriority(os.PRIO_PROCESS, {pid}, 19); out()",
    "pin the service to a core": "import os; os.sched_setaffinity({pid}, [0]); out()",
    "limit the service": "import resource; resource.prlimit({pid}, resource.RLIMIT_NOFILE, (99, 99)); out()",
    "real-time priority": "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)); out()",
    "raise own limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); out()",
    "leave the session": "import os; os.setsid(); out()",
}
KERNEL = {
    "user namespace": _C + "check(libc.unshare(0x10000000))",
    "mount namespace": _C + "check(libc.unshare(0x00020000))",
    "network namespace": _C + "check(libc.unshare(0x40000000))",
    "mount": _C + "check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
    "new mount calls": _C + "check(syscall(430, ctypes.c_char_p(b'tmpfs'), 0))",
    "chroot": "import os; os.chroot('/usr'); out()",
    "another user": "import os; os.setuid(0 if os.getuid() else 65534); out()",
    "other groups": "import os; os.setgroups([0]); out()",
    "the host's name": "import socket; socket.sethostname('outside'); out()",
    "the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, time.time()); out()",
    "tune the clock": _C + "check(libc.adjtimex(ctypes.create_string_buffer(512)))",
    "keyrings": _C + "check(syscall(250, 0, -3, 1, 0, 0))",
    "bpf": _C + "check(syscall(321, 0, ctypes.create_string_buffer(128), 128))",
    "io_uring": _C + "check(syscall(425, 4, ctypes.create_string_buffer(256)))",
    "perf": _C + "check(syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0))",
    "userfaultfd": _C + "check(syscall(323, 0))",
    "code in memory files": _C + "check(syscall(319, ctypes.c_char_p(b'x'), 0))",
    "watch files": _C + "check(libc.inotify_init())",
    "System V shared memory": _C + "check(libc.shmget(0x5EED, 4096, 0o1666))",
    "message queues": _C + "check(libc.mq_open(b'/minigpt_outside', 0o102, 0o600, None))",
    "the kernel's log": _C + "check(syscall(103, 3, ctypes.create_string_buffer(64), 64))",
    "ports": _C + "check(syscall(172, 3))",
    "type into the terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); out()",
    "loosen the filter": _C + "check(libc.prctl(22, 0)); check(libc.prctl(38, 0, 0, 0, 0))",
    "outlive the service": _C + "check(libc.prctl(1, 0, 0, 0, 0))",
    "32-bit calls": _C + "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
    "check(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())",
}
RESOURCES = {
    "memory at once": "bytearray(1 << 30); out()",
    "memory bit by bit": "x = []\nwhile len(x) < 600: x.append(bytearray(1 << 20))\nout()",
    "mapped memory": "import mmap; mmap.mmap(-1, 1 << 30); out()",
    "open files": "import os\nfor n in range(500): os.dup(0)\nout()",
    "a crash": "import ctypes; ctypes.string_at(0); out()",
    "a flood of output": "while True: print('x' * 65536)",
    "a flood of errors": "import sys\nwhile True: sys.stderr.write('x' * 65536)",
}
ENDLESS = {
    "a loop": "while True: pass",
    "endless recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf(); out()",
    "sleep": "import time; time.sleep(60); out()",
    "stopping itself": "import os; os.kill(os.getpid(), 19); out()",
    "a power": "9**9**9**9; out()",
    "ignoring signals": "import signal\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n"
    "  except (OSError, ValueError): pass\nwhile True: pass",
}
ESCAPES = FILES | PROC | NETWORK | PROCESSES | KERNEL | RESOURCES | ENDLESS
