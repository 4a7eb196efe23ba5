/* SPDX-License-Identifier: MIT */

/* The page of picture_page() without its data; embed-page.py makes it of waterfall.html, .css,
 * .js. */

#ifndef TOOL_PAGE_H
#define TOOL_PAGE_H

extern const char page_before_data[];
extern const char page_after_data[];

#endif
