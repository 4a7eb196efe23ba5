/* SPDX-License-Identifier: MIT */

#include "export/options.h"

const char export_help[] =
    "usage: finack export [OPTIONS]\n"
    "\n"
    "Serves the verdicts of 'finack ps' as Prometheus metrics, at /metrics, until interrupted. Each\n"
    "scrape looks at the machine's sockets anew, at most twice a second.\n"
    "\n"
    "  --listen ADDRESS    where to serve (default 127.0.0.1:9799); an address that is not this\n"
    "                      machine's own shows to others who talks to whom\n"
    "  --commands N        so many commands get a label of their own (default 50), the rest\n"
    "                      is '(other commands)'\n"
    "  --containers        label containers too, as far as cgroups tell: the id, and the name of\n"
    "                      the pod or host; each command in each of them counts for --commands\n"
    "  --port PORT,...     label sockets with these ports too, one end's or the other's\n"
    "  --netns WHICH       another network namespace, as with 'finack ps'; or all\n"
    "  -h, --help, --version\n"
    "\n"
    "Metrics: finack_sockets by verdict, state and command; the longest leak, queues, looks, and what\n"
    "could not be looked at. No label has an address, or a port that was not asked for.\n"
    "\n"
    "Exit status: 0 interrupted, 2 bad usage, or the address can't be listened on.\n";
