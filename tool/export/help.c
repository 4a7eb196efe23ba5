/* SPDX-License-Identifier: MIT */

#include "export/options.h"

const char export_help[] =
    "usage: finack export [OPTIONS]\n"
    "\n"
    "Serves the verdicts of 'finack ps' as Prometheus metrics, at /metrics, until interrupted. Each\n"
    "scrape looks at the machine's sockets anew, at most twice a second.\n"
    "\n"
    "  --listen ADDRESS    where to serve (default 127.0.0.1:9799); there is no password: whoever\n"
    "                      reaches another address can read the metrics\n"
    "  --commands N        at most N commands get a label of their own (default 50), the\n"
    "                      others are '(other commands)'\n"
    "  --containers        label containers too, as far as cgroups show them: the id, and the\n"
    "                      name of the pod or host; --commands counts a command once in each\n"
    "  --port PORT,...     label sockets with these ports, of either end, too\n"
    "  --netns WHICH       another network namespace, as with 'finack ps'; or all\n"
    "  -h, --help, --version\n"
    "\n"
    "Metrics: finack_sockets by verdict, state and command; the oldest leak, queues, the exporter\n"
    "itself, and what could not be looked at. No label has an address, or a port not in --port.\n"
    "\n"
    "Exit status: 0 interrupted, 2 bad usage, or the address can't be listened on.\n";
