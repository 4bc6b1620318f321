{{- define "labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* An environment's name may have "_", which no name of Kubernetes may. */ -}}
{{- define "codeServer" -}}
{{ .root.Release.Name }}-code-{{ .environment | replace "_" "-" }}
{{- end }}

{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- /* A pod that has read other files than the ones that are there now is replaced. */ -}}
{{- define "annotations" -}}
checksum/instance: {{ include (print .Template.BasePath "/instance.yaml") . | sha256sum }}
checksum/settings: {{ include (print .Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end }}

{{- define "pod" -}}
{{- /* Else a Service of ours becomes variables such as DBT_ORCHESTRATION_…, which are taken for settings. */ -}}
enableServiceLinks: false
securityContext:
  {{- include "podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What every process of Dagster needs. */ -}}
{{- define "env" -}}
- name: HOME
  value: /opt/dagster/home
- name: AWS_DEFAULT_REGION
  value: {{ .Values.bucket.region }}
- name: DAGSTER_PG_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.postgres.passwordSecret.name }}, key: {{ .Values.postgres.passwordSecret.key }}}
{{- end }}

{{- /* What reads the dbt project needs besides. */ -}}
{{- define "codeEnv" -}}
- name: DBT_ORCHESTRATION_CONFIG
  value: /etc/dbt-orchestration/settings/environments.yaml
- name: DBT_ORCHESTRATION_STATE_DIR
  value: /var/lib/dbt-orchestration
{{- if .Values.profiles }}
- name: DBT_ORCHESTRATION_PROFILES_DIR
  value: /etc/dbt-orchestration/profiles
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "mounts" -}}
- {name: instance, mountPath: /opt/dagster/home/dagster.yaml, subPath: dagster.yaml, readOnly: true}
- {name: instance, mountPath: /etc/dagster/workspace.yaml, subPath: workspace.yaml, readOnly: true}
- {name: scratch, mountPath: /opt/dagster/home, subPath: home}
- {name: scratch, mountPath: /tmp, subPath: tmp}
{{- end }}

{{- define "codeMounts" -}}
- {name: settings, mountPath: /etc/dbt-orchestration/settings/environments.yaml, subPath: environments.yaml, readOnly: true}
{{- if .Values.profiles }}
- {name: settings, mountPath: /etc/dbt-orchestration/profiles/profiles.yml, subPath: profiles.yml, readOnly: true}
{{- end }}
- {name: scratch, mountPath: /var/lib/dbt-orchestration, subPath: state}
{{- range .Values.fileSecrets }}
- {name: secret-{{ .name }}, mountPath: {{ .path }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "volumes" -}}
- name: instance
  configMap: {name: {{ .Release.Name }}-instance}
{{- end }}

{{- define "codeVolumes" -}}
- name: settings
  configMap: {name: {{ .Release.Name }}-settings}
{{- range .Values.fileSecrets }}
- name: secret-{{ .name }}
  secret: {secretName: {{ .name }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "storage" -}}
storage:
  postgres:
    postgres_db:
      # A plain `postgresql` is another driver, with which Dagster does not work.
      scheme: postgresql+psycopg2
      hostname: {{ .Values.postgres.host }}
      port: {{ .Values.postgres.port }}
      db_name: {{ .Values.postgres.database }}
      username: {{ .Values.postgres.user }}
      # The name of the variable travels with each run, and not what is in it.
      password: {env: DAGSTER_PG_PASSWORD}
      {{- with .Values.postgres.params }}
      params: {{- toYaml . | nindent 8 }}
      {{- end }}
telemetry: {enabled: false}
{{- end }}

{{- define "codeContainer" -}}
env:
  - {name: DAGSTER_HOME, value: /opt/dagster/home}
  {{- include "env" . | nindent 2 }}
  {{- include "codeEnv" . | nindent 2 }}
{{- with .Values.envSecrets }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
resources: {{- toYaml .Values.codeServer.resources | nindent 2 }}
securityContext: {{- include "containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "mounts" . | nindent 2 }}
  {{- include "codeMounts" . | nindent 2 }}
{{- end }}
