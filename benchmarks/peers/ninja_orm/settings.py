from benchmarks.peers.orm.settings import *

ROOT_URLCONF = "benchmarks.peers.ninja_orm.urls"
