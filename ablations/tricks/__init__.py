"""The tricks that come along, by what they touch; every module in this folder is found by itself."""
