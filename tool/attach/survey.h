/* SPDX-License-Identifier: MIT */

/* The script that Python runs, without the path of the file for its answer; embed-survey.py
 * makes it from python/finack/_report/survey.py. */

#ifndef TOOL_SURVEY_H
#define TOOL_SURVEY_H

extern const char survey_before_path[];
extern const char survey_after_path[];

#endif
