"""All that knows dbt's inside. The rest of the package asks for it here.

dbt's next major version has no Python API. This is what each part takes from dbt in this process;
each can be replaced by a command line.

- ``parse.parse_into`` (*parse*): a manifest and a saved parse, which ``dbt parse`` writes; and
  from ``internals.sessions.session`` the rendered settings of the project and its packages, the
  target, and the environment variables that Jinja asked for.
- ``compile.compile_nodes`` (*compile*): the SQL of single nodes, from a manifest, without a
  connection and with ``is_incremental()`` answered. ``dbt compile`` asks the warehouse.
- ``invocation.DbtInvocation`` (*run*): ``dbtRunner``, which dbt documents, and its events as they
  happen. ``internals.manifests`` changes the manifest that it gets: which nodes and batches, and
  another name for a table. A command line needs a selector file and dates instead.
- ``operation.operate``: one macro of ours and its answer, as ``dbt run-operation``.
- ``layout``, ``invocation.DbtTarget.credentials``: rendered dbt_project.yml and profiles.yml.
- ``cache``, ``facts``, ``read``, ``clock``, ``scratch``: files, and nothing of dbt.
"""
