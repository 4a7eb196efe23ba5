/* SPDX-License-Identifier: MIT */

/* What the Python is given to run, without the path of the file for its answer; embed-survey.py
 * makes it of the package's own survey. */

#ifndef TOOL_SURVEY_H
#define TOOL_SURVEY_H

extern const char survey_before_path[];
extern const char survey_after_path[];

#endif
