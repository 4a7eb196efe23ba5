# SPDX-License-Identifier: MIT
"""Whether extensions can be built for this interpreter: exit status 0."""

import os
import sys
import sysconfig

sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
